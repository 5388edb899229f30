//! What an engine shows, asked by its own tools: `docker image inspect`, `skopeo inspect`.

use std::process::Command;

use azaion_cloud::archive::Made;
use serde_json::{Value, json};

use crate::harness::Board;
use crate::support::{self, engine};

/// Every tag of the suite is in the OCI directory with its layers, as `skopeo` reads it.
pub(crate) fn skopeo_shows(board: &Board, images: &[Made]) {
    if Command::new("skopeo").arg("--version").output().is_err() {
        support::skip("skopeo is not installed: apt-get install skopeo");
        return;
    }
    for image in images {
        for tag in &image.tags {
            let place = format!("oci:{}:{tag}", board.path("oci").display());
            let shown = Command::new("skopeo").args(["inspect", &place]).output().expect("skopeo runs");
            assert!(shown.status.success(), "{place}: {}", String::from_utf8_lossy(&shown.stderr));
            let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
            assert_eq!(shown["Layers"].as_array().map(Vec::len), Some(image.diff_ids.len()), "{tag}");
            let config = Command::new("skopeo").args(["inspect", "--config", "--raw", &place]).output().expect("runs");
            let config: Value = serde_json::from_slice(&config.stdout).expect("JSON");
            assert_eq!(config["rootfs"]["diff_ids"], json!(image.diff_ids), "{tag}");
        }
    }
}

/// Every tag of the suite is in the Docker engine with its layers.
pub(crate) fn docker_shows(engine: &engine::Engine, images: &[Made]) {
    for image in images {
        for tag in &image.tags {
            let shown = engine.docker(&["image", "inspect", tag]).expect("the engine shows it");
            let shown: Value = serde_json::from_str(&shown).expect("JSON");
            assert_eq!(shown[0]["RootFS"]["Layers"], json!(image.diff_ids), "{tag}");
        }
    }
}
