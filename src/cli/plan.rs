//! `plan`: what an unlock would send to the engine.

use super::args::PlanOptions;
use super::screen::{Screen, plain, size};
use super::unlock::credentials;
use super::{Failure, exit};
use crate::agent::{self, PreviewRefused};
use crate::config::Config;
use crate::engine::{Preview, PreviewImage};

pub(super) fn run(options: PlanOptions, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let config = Config::load(&options.source)?;
    let given = credentials(options.login)?;
    let held = if given.is_none() { config.boot_credentials()? } else { None };
    let Some(credentials) = given.or(held) else {
        let next = "name who logs in with --email or --credentials, or set [boot] credentials_file";
        return Err(Failure::new(exit::USAGE, format_args!("nobody to log in as\nnext: {next}")));
    };
    let preview = agent::preview(config, &credentials).map_err(|refused| match refused {
        PreviewRefused::Configuration(said) => Failure::new(exit::USAGE, said),
        PreviewRefused::Failed(report) => {
            let said = format!("{} ({})\nnext: {}", report.message, report.code, report.next);
            Failure::new(exit::FAILED, said)
        }
    })?;
    let Some(preview) = preview else {
        screen.print("the engine is an image directory: it takes every blob that it does not have, in one pass");
        return Ok(exit::DONE);
    };
    if options.as_json {
        let json = serde_json::to_string_pretty(&preview).map_err(|error| Failure::new(exit::FAILED, error))?;
        screen.print(&json);
    } else {
        for line in lines(&preview) {
            screen.print(&line);
        }
    }
    Ok(if fits(&preview) { exit::DONE } else { exit::FAILED })
}

fn fits(preview: &Preview) -> bool {
    preview.free_bytes.is_none_or(|free| preview.lasting_bytes <= free)
}

fn lines(preview: &Preview) -> Vec<String> {
    let mut rows = vec![["IMAGE", "STATE", "LAYERS SENT", "BYTES", "REQUESTS", "BUILDS ON"].map(str::to_owned)];
    rows.extend(preview.images.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.push(summary(preview));
    lines.push(room(preview));
    lines
}

fn row(image: &PreviewImage) -> [String; 6] {
    let name = image.tags.first().map_or_else(|| image.config.chars().take(19).collect(), |tag| plain(tag));
    [
        name,
        if image.present { "present" } else { "missing" }.to_owned(),
        format!("{} of {}", image.layers_sent, image.layers),
        size(image.bytes),
        image.requests.to_string(),
        image.builds_on.as_deref().map_or_else(|| "-".to_owned(), plain),
    ]
}

fn summary(preview: &Preview) -> String {
    let images = preview.images.len();
    let present = preview.images.iter().filter(|image| image.present).count();
    let counts = format!("{images} images, {present} present");
    if preview.requests == 0 {
        return format!("{counts}: nothing to send");
    }
    let (bytes, of) = (size(preview.bytes), size(preview.archive_bytes));
    if preview.thin {
        let (requests, at_once) = (preview.requests, preview.at_once);
        format!("{counts}: {bytes} of {of} in {requests} requests, up to {at_once} images side by side")
    } else {
        format!("{counts}: the archive goes in as it is, {bytes} in one request")
    }
}

fn room(preview: &Preview) -> String {
    let free = match preview.free_bytes {
        Some(free) => format!("{} are free", size(free)),
        None => "how much is free cannot be seen from here".to_owned(),
    };
    let needs =
        format!("room: {} stay, {} pass through; {free}", size(preview.lasting_bytes), size(preview.passing_bytes));
    if fits(preview) { needs } else { format!("{needs}: they do not fit") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(free_bytes: Option<u64>) -> Preview {
        let image = |tag: &str, present| PreviewImage {
            tags: vec![tag.to_owned()],
            config: "sha256:ab".to_owned(),
            present,
            layers: 3,
            layers_sent: if present { 0 } else { 2 },
            bytes: if present { 0 } else { 5 << 20 },
            requests: usize::from(!present),
            builds_on: None,
        };
        Preview {
            images: vec![image("a:1", true), image("b\u{1b}:1", false)],
            thin: true,
            requests: 1,
            at_once: 2,
            bytes: 5 << 20,
            archive_bytes: 9 << 20,
            lasting_bytes: 5 << 20,
            passing_bytes: 5 << 20,
            free_bytes,
        }
    }

    #[test]
    fn a_plan_is_told_image_by_image_and_its_room_too() {
        let said = lines(&preview(Some(1 << 30))).join("\n");
        assert!(said.contains("a:1    present  0 of 3"), "{said}");
        assert!(said.contains("b :1   missing  2 of 3       5.0 MiB"), "{said}");
        assert!(said.contains("2 images, 1 present: 5.0 MiB of 9.0 MiB in 1 requests"), "{said}");
        assert!(said.ends_with("1.0 GiB are free"), "{said}");
        assert!(lines(&preview(Some(1 << 20))).join("\n").ends_with("they do not fit"));
        assert!(lines(&preview(None)).join("\n").ends_with("cannot be seen from here"));
    }
}
