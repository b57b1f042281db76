//! Reads the folder of site plans: `plans.json`, and the images that it names.

use std::collections::HashSet;
use std::fmt::{self, Debug, Formatter};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use shared::decimal::Decimal;
use shared::profile::Profile;
use shared::visible_text::clean;

use crate::location::is_within;
use crate::rest::memory_file::{MemoryFile, SVG};

const FLAG: &str = "--site-plans";
const LIST: &str = "plans.json";
const MAX_LIST_BYTES: u64 = 256 * 1024;
/// The most plans.
const MAX_PLANS: usize = 50;
/// The most bytes of one image, and of all together.
const MAX_IMAGE_BYTES: u64 = 5 * 1024 * 1024;
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// The longest id, in characters. It stands in a path.
const MAX_ID: usize = 64;

/// A plan with its image.
pub(super) struct SitePlan {
    pub(super) id: String,
    pub(super) name: String,
    /// The site of the profiles of its devices.
    pub(super) site: Option<String>,
    pub(super) edges: Edges,
    pub(super) image: MemoryFile,
}

/// The coordinates of the edges of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edges {
    pub(super) south: Decimal,
    pub(super) west: Decimal,
    pub(super) north: Decimal,
    pub(super) east: Decimal,
}

/// All plans, in the order of the list. Empty without a folder.
#[derive(Default)]
pub(crate) struct SitePlans(Vec<SitePlan>);

impl Debug for SitePlans {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ids = self.0.iter().map(|plan| &plan.id);
        f.debug_list().entries(ids).finish()
    }
}

/// One plan as it stands in the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    id: String,
    name: String,
    site: Option<String>,
    image: String,
    south: Decimal,
    west: Decimal,
    north: Decimal,
    east: Decimal,
}

impl SitePlans {
    /// Reads a folder.
    ///
    /// # Errors
    /// The list or an image cannot be read, is too large, or is not what it should be.
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        let list = folder.join(LIST);
        let problem = |problem: String| format!("{FLAG}: `{}`: {problem}", list.display());
        let text = read_file(&list, MAX_LIST_BYTES)?;
        let listed: Vec<Listed> =
            serde_json::from_slice(&text).map_err(|err| problem(err.to_string()))?;
        if listed.len() > MAX_PLANS {
            return Err(problem(format!("more than {MAX_PLANS} plans")));
        }
        let (mut plans, mut ids, mut bytes) = (Vec::new(), HashSet::new(), 0);
        for listed in listed {
            let checked = listed.checked();
            let (name, site) = checked.map_err(|found| problem(listed.about(found)))?;
            if !ids.insert(listed.id.clone()) {
                return Err(problem(listed.about("this id is there twice")));
            }
            let (content_type, image) = read_image(folder, &listed.image)?;
            bytes += image.len() as u64;
            if bytes > MAX_BYTES {
                let most = MAX_BYTES / 1024 / 1024;
                return Err(problem(format!("all images have more than {most} MiB")));
            }
            plans.push(SitePlan {
                edges: listed.edges(),
                id: listed.id,
                name,
                site,
                image: MemoryFile::new(content_type, image),
            });
        }
        Ok(Self(plans))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SitePlan> {
        self.0.iter()
    }
}

impl Listed {
    fn about(&self, problem: &str) -> String {
        format!("the plan `{}`: {problem}", self.id)
    }

    fn edges(&self) -> Edges {
        Edges {
            south: self.south,
            west: self.west,
            north: self.north,
            east: self.east,
        }
    }

    /// Returns the name and the site.
    fn checked(&self) -> Result<(String, Option<String>), &'static str> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if self.id.is_empty() || self.id.len() > MAX_ID || !self.id.chars().all(is_plain) {
            return Err("`id` must have 1 to 64 letters, digits, `-` and `_`");
        }
        let Some(name) = text(&self.name, Profile::MAX_NAME) else {
            return Err("`name` must have 1 to 128 visible characters");
        };
        let site = match &self.site {
            None => None,
            Some(site) => Some(
                text(site, Profile::MAX_PLACE)
                    .ok_or("`site` must have 1 to 64 visible characters")?,
            ),
        };
        let latitudes = [self.south, self.north];
        let longitudes = [self.west, self.east];
        let latitude = |degrees: &Decimal| is_within(*degrees, Profile::MAX_LATITUDE);
        let longitude = |degrees: &Decimal| is_within(*degrees, Profile::MAX_LONGITUDE);
        if !latitudes.iter().all(latitude) || self.south >= self.north {
            return Err("`south` must be below `north`, both from -90 to 90");
        }
        if !longitudes.iter().all(longitude) || self.west >= self.east {
            return Err("`west` must be below `east`, both from -180 to 180");
        }
        Ok((name, site))
    }
}

/// Returns a text as it is compared with those of profiles; `None` if it has hidden characters, none at all, or too many.
fn text(given: &str, max: usize) -> Option<String> {
    let given = given.trim();
    let is_fit = !given.is_empty() && given.chars().count() <= max && clean(given) == given;
    is_fit.then(|| given.to_owned())
}

/// Reads the image of this name, and its type.
fn read_image(folder: &Path, name: &str) -> Result<(&'static str, Vec<u8>), String> {
    let problem = |problem: &str| format!("{FLAG}: the image `{name}`: {problem}");
    // Nothing but a file of this folder.
    if name.starts_with('.') || name.contains(['/', '\\']) || Path::new(name).file_name().is_none()
    {
        return Err(problem("it must be the name of a file beside plans.json"));
    }
    let extension = Path::new(name).extension();
    let extension = extension.and_then(|extension| extension.to_str());
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    let (content_type, has_begun_right): (_, fn(&[u8]) -> bool) = match extension.as_str() {
        "svg" => (SVG, |bytes| {
            std::str::from_utf8(bytes).is_ok_and(|text| text.contains("<svg"))
        }),
        "png" => ("image/png", |bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n")),
        "jpg" | "jpeg" => ("image/jpeg", |bytes| bytes.starts_with(b"\xff\xd8\xff")),
        "webp" => ("image/webp", |bytes| {
            bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP")
        }),
        _ => return Err(problem("it must be an svg, png, jpg or webp")),
    };
    let bytes = read_file(&folder.join(name), MAX_IMAGE_BYTES)?;
    if !has_begun_right(&bytes) {
        return Err(problem(&format!("it is no {extension}")));
    }
    Ok((content_type, bytes))
}

/// Reads a file of at most so many bytes.
fn read_file(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let problem = |problem: String| format!("{FLAG}: `{}`: {problem}", path.display());
    let about = fs::metadata(path).map_err(|err| problem(err.to_string()))?;
    if !about.is_file() {
        return Err(problem("this is no file".to_owned()));
    }
    let file = File::open(path).map_err(|err| problem(err.to_string()))?;
    let mut bytes = Vec::new();
    let read = file.take(max + 1).read_to_end(&mut bytes);
    read.map_err(|err| problem(err.to_string()))?;
    if bytes.len() as u64 > max {
        return Err(problem(format!("more than {} KiB", max / 1024)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
