//! Makes image archives as `docker save` writes them (CONTRACT section 4), for demo and tests.
//!
//! Nothing here is shared with the agent: the agent's reader and this writer are two implementations of one format.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};

use aes::cipher::{BlockModeEncrypt as _, KeyIvInit as _, block_padding::Pkcs7};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// How the tar is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `<id>/layer.tar`, `<digest>.json`, `manifest.json`: what Docker up to 24 writes.
    Classic,
    /// `blobs/sha256/…`, `index.json`, `oci-layout`, `manifest.json`: what Docker from 25 writes.
    Oci,
}

/// One layer's content.
#[derive(Debug, Clone)]
pub enum Layer {
    /// These files: path without leading slash, mode, bytes.
    Files(Vec<(String, u32, Vec<u8>)>),
    /// A directory of this machine, put under a path of the image.
    Directory {
        /// Where the files are.
        from: PathBuf,
        /// Where the image has them, without leading slash.
        to: String,
    },
}

/// One image to make.
#[derive(Debug, Clone)]
pub struct Image {
    /// `name:tag`, any number.
    pub tags: Vec<String>,
    /// From the bottom up.
    pub layers: Vec<Layer>,
    /// What `docker run` starts.
    pub command: Vec<String>,
}

/// What was made of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// `name:tag`, any number.
    pub tags: Vec<String>,
    /// `sha256:…` of the config.
    pub config: String,
    /// `sha256:…` of each uncompressed layer, from the bottom up.
    pub diff_ids: Vec<String>,
}

/// The machine's architecture in the words of image configs.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Writes an archive of `images` for this machine's architecture to `out`. Layers are made in `scratch` first, because
/// their names are their digests.
pub fn write(layout: Layout, images: &[Image], scratch: &Path, out: impl Write) -> io::Result<Vec<Made>> {
    write_for(architecture(), layout, images, scratch, out)
}

/// [`write`] for another architecture, in the words of image configs.
pub fn write_for(
    architecture: &str,
    layout: Layout,
    images: &[Image],
    scratch: &Path,
    out: impl Write,
) -> io::Result<Vec<Made>> {
    let mut tar = tar::Builder::new(out);
    let mut manifest = Vec::new();
    let mut index = Vec::new();
    let mut made = Vec::new();
    let mut written: Vec<String> = Vec::new();
    for image in images {
        let mut diff_ids = Vec::new();
        let mut places = Vec::new();
        let mut sizes = Vec::new();
        for layer in &image.layers {
            let mut file = tempfile_in(scratch)?;
            write_layer(layer, &mut file)?;
            let (digest, size) = digest_of(&mut file)?;
            let place = match layout {
                Layout::Classic => format!("{digest}/layer.tar"),
                Layout::Oci => format!("blobs/sha256/{digest}"),
            };
            if !written.contains(&place) {
                append(&mut tar, &place, size, &mut file)?;
                written.push(place.clone());
            }
            diff_ids.push(format!("sha256:{digest}"));
            places.push(place);
            sizes.push(size);
        }
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": { "Cmd": image.command, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": diff_ids.iter().map(|id| json!({"created": "2026-01-01T00:00:00Z", "created_by": id})).collect::<Vec<_>>(),
        })
        .to_string();
        let digest = hex(&Sha256::digest(&config));
        let place = match layout {
            Layout::Classic => format!("{digest}.json"),
            Layout::Oci => format!("blobs/sha256/{digest}"),
        };
        if !written.contains(&place) {
            append_bytes(&mut tar, &place, config.as_bytes())?;
            written.push(place.clone());
        }
        if layout == Layout::Oci {
            let layers: Vec<_> = diff_ids
                .iter()
                .zip(&sizes)
                .map(|(id, size)| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": id, "size": size}))
                .collect();
            let oci = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": format!("sha256:{digest}"), "size": config.len()},
                "layers": layers,
            })
            .to_string();
            let oci_digest = hex(&Sha256::digest(&oci));
            append_bytes(&mut tar, &format!("blobs/sha256/{oci_digest}"), oci.as_bytes())?;
            for tag in &image.tags {
                index.push(json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": format!("sha256:{oci_digest}"),
                    "size": oci.len(),
                    "annotations": {
                        "io.containerd.image.name": format!("docker.io/{tag}"),
                        "org.opencontainers.image.ref.name": tag.rsplit_once(':').map_or("latest", |(_, tag)| tag),
                    },
                }));
            }
        }
        manifest.push(json!({"Config": place, "RepoTags": image.tags, "Layers": places}));
        made.push(Made { tags: image.tags.clone(), config: format!("sha256:{digest}"), diff_ids });
    }
    if layout == Layout::Oci {
        append_bytes(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index =
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": index});
        append_bytes(&mut tar, "index.json", index.to_string().as_bytes())?;
    }
    append_bytes(&mut tar, "manifest.json", json!(manifest).to_string().as_bytes())?;
    tar.into_inner()?.flush()?;
    Ok(made)
}

/// Encrypts a tar to an archive: `IV ‖ AES-256-CBC` under SHA-256 of the key fragment.
pub fn encrypt(fragment: &[u8], mut plain: impl Read, mut out: impl Write) -> io::Result<()> {
    let key = Sha256::digest(fragment);
    let mut iv = [0; 16];
    getrandom::fill(&mut iv).map_err(io::Error::other)?;
    out.write_all(&iv)?;
    let mut cipher = cbc::Encryptor::<aes::Aes256>::new(&key, &iv.into());
    let mut piece = vec![0; 1 << 20];
    loop {
        let mut filled = 0;
        while filled < piece.len() {
            match plain.read(&mut piece[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        let (blocks, rest) = piece[..filled].as_chunks_mut::<16>();
        for block in &mut *blocks {
            cipher.encrypt_block(block.into());
        }
        let (whole, rest) = (blocks.len() * 16, rest.to_vec());
        out.write_all(&piece[..whole])?;
        if filled < piece.len() {
            out.write_all(&cipher.encrypt_padded_vec::<Pkcs7>(&rest))?;
            return out.flush();
        }
    }
}

fn write_layer(layer: &Layer, out: &mut File) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::new(out));
    tar.follow_symlinks(false);
    tar.mode(tar::HeaderMode::Deterministic);
    match layer {
        Layer::Files(files) => {
            for (path, mode, bytes) in files {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(*mode);
                header.set_mtime(0);
                tar.append_data(&mut header, path, bytes.as_slice())?;
            }
        }
        Layer::Directory { from, to } => tar.append_dir_all(to, from)?,
    }
    tar.into_inner()?.flush()
}

fn tempfile_in(scratch: &Path) -> io::Result<File> {
    let path = scratch.join(format!("layer-{}", std::process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    // Nameless from here on: it goes away with the handle.
    std::fs::remove_file(path)?;
    Ok(file)
}

fn digest_of(file: &mut File) -> io::Result<(String, u64)> {
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let n = file.read(&mut piece)?;
        if n == 0 {
            break;
        }
        hash.update(&piece[..n]);
        size += n as u64;
    }
    file.rewind()?;
    Ok((hex(&hash.finalize()), size))
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, size: u64, from: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, path, from)
}

fn append_bytes(tar: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> io::Result<()> {
    append(tar, path, bytes.len() as u64, bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
