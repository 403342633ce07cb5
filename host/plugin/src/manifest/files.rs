//! The files of a plugin in a manifest, and the forms in which they are written.

use crate::{capabilities::GuestPath, files};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{
    fmt,
    path::{Component, PathBuf},
};

/// The files that a plugin brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub wanted: Wanted,
    /// Their directory, relative to the plugin's.
    pub directory: PathBuf,
    /// The guest's path of them.
    pub at: GuestPath,
}

/// Whether a plugin has files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    No,
    /// If their directory exists.
    #[default]
    IfThere,
    Yes,
}

impl Default for Files {
    fn default() -> Self {
        let at = GuestPath::try_from(files::AT.to_owned()).expect("a path");
        Self { wanted: Wanted::default(), directory: files::DIRECTORY.into(), at }
    }
}

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FilesForm)
    }
}

/// The forms of `files`: false, a directory, or a directory and its place.
struct FilesForm;

impl<'de> Visitor<'de> for FilesForm {
    type Value = Files;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a directory, false, or {directory: …, at: …}")
    }

    fn visit_bool<E: serde::de::Error>(self, wanted: bool) -> Result<Files, E> {
        Ok(Files { wanted: if wanted { Wanted::Yes } else { Wanted::No }, ..Files::default() })
    }

    fn visit_str<E: serde::de::Error>(self, directory: &str) -> Result<Files, E> {
        let InnerPath(directory) = PathBuf::from(directory).try_into().map_err(E::custom)?;
        Ok(Files { wanted: Wanted::Yes, directory, ..Files::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Files, A::Error> {
        let written = WrittenFiles::deserialize(MapAccessDeserializer::new(map))?;
        let default = Files::default();
        Ok(Files {
            wanted: Wanted::Yes,
            directory: written.directory.map_or(default.directory, |InnerPath(path)| path),
            at: written.at.unwrap_or(default.at),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenFiles {
    directory: Option<InnerPath>,
    at: Option<GuestPath>,
}

/// A path below a directory.
#[derive(Deserialize)]
#[serde(try_from = "PathBuf")]
pub(crate) struct InnerPath(pub PathBuf);

impl TryFrom<PathBuf> for InnerPath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        let path: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
        if path.components().all(|part| matches!(part, Component::Normal(_))) && path.components().next().is_some() {
            Ok(Self(path))
        } else {
            Err(format!("{path:?} is not a directory or file inside the plugin's: name one, such as files"))
        }
    }
}
