//! The index of a model in shards: which tensor is in which file.
//!
//! ```text
//! {"metadata": {"total_size": 1234}, "weight_map": {"wte.weight": "model-00001-of-00002.safetensors", ..}}
//! ```
//!
//! The metadata is ignored: its `total_size` is wrong in published indexes often enough, and the
//! shards say it better. A shard is a path inside the folder of the index, or it is refused.
//!
//! ```
//! use formwork_formats::{Archive, ErrorKind};
//! let index = br#"{"weight_map": {"w": "../../etc/passwd"}}"#;
//! let error = Archive::from_shards(index, []).unwrap_err();
//! assert!(matches!(error.kind(), ErrorKind::ShardOutsideFolder { .. }));
//! ```

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry as Place};
use std::fmt;
use std::path::{Component, Path};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::MAX_HEADER;
use crate::ErrorKind;
use crate::error::{Error, Result};

/// The file name of the index of a model in shards.
pub const INDEX_NAME: &str = "model.safetensors.index.json";

/// A checked index.
#[derive(Debug)]
pub(crate) struct Index {
    /// Each shard once, by name.
    pub(crate) shards: Vec<String>,
    /// The position in `shards` of each tensor, by name.
    pub(crate) weights: BTreeMap<String, usize>,
}

impl Index {
    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        let found = json.len() as u64;
        if found > MAX_HEADER {
            return Err(ErrorKind::HeaderTooLarge { found, limit: MAX_HEADER }.into());
        }
        let text =
            std::str::from_utf8(json).map_err(|error| ErrorKind::NotUtf8 { at: error.valid_up_to() })?;
        let file: File = serde_json::from_str(text)
            .map_err(|error| ErrorKind::Json { what: "index", message: error.to_string() })?;
        let Shards { mut names, mut weights, twice } = file.weight_map;
        if let Some(key) = twice {
            return Err(ErrorKind::DuplicateKey { key }.into());
        }
        if let Some(shard) = names.iter().find(|name| !is_inside(name)) {
            return Err(Error::from(ErrorKind::ShardOutsideFolder { shard: shard.clone() }));
        }
        // The order of the files, not that in which the map happens to mention them.
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by(|&a, &b| names[a].cmp(&names[b]));
        let mut rank = vec![0; names.len()];
        for (place, &was) in order.iter().enumerate() {
            rank[was] = place;
        }
        weights.values_mut().for_each(|shard| *shard = rank[*shard]);
        names.sort();
        Ok(Self { shards: names, weights })
    }
}

/// Whether `shard` stays in the folder on every system, whose separators differ.
fn is_inside(shard: &str) -> bool {
    let mut parts = Path::new(shard).components();
    !shard.is_empty()
        && !shard.contains(['\\', ':', '\0'])
        && !shard.ends_with('/')
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Writes the index of `weights`, whose numbers take `total_size` bytes.
pub(super) fn encode(weights: &BTreeMap<&str, String>, total_size: u64) -> Vec<u8> {
    #[derive(Serialize)]
    struct Out<'a> {
        metadata: Metadata,
        weight_map: &'a BTreeMap<&'a str, String>,
    }
    #[derive(Serialize)]
    struct Metadata {
        total_size: u64,
    }
    let out = Out { metadata: Metadata { total_size }, weight_map: weights };
    let mut json = serde_json::to_vec_pretty(&out).expect("strings and a number are always JSON");
    json.push(b'\n');
    json
}

#[derive(Deserialize)]
struct File {
    weight_map: Shards,
}

/// Tensor names to positions in the list of distinct shard names, first mentioned first.
struct Shards {
    names: Vec<String>,
    weights: BTreeMap<String, usize>,
    /// A tensor that stands twice.
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Shards {
    fn deserialize<D: Deserializer<'de>>(json: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Shards;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Shards, A::Error> {
                let mut positions = HashMap::new();
                let mut shards = Shards { names: Vec::new(), weights: BTreeMap::new(), twice: None };
                while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
                    let next = shards.names.len();
                    let position = *positions.entry(shard.clone()).or_insert(next);
                    if position == next {
                        shards.names.push(shard);
                    }
                    match shards.weights.entry(tensor) {
                        Place::Vacant(place) => drop(place.insert(position)),
                        Place::Occupied(place) => shards.twice = Some(place.key().clone()),
                    }
                }
                Ok(shards)
            }
        }
        json.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_inside_the_folder_are_shards() {
        for inside in ["model-00001-of-00002.safetensors", "unet/a.safetensors", "a b", "..a"] {
            assert!(is_inside(inside), "{inside}");
        }
        let outside = [
            "",
            ".",
            "..",
            "../x",
            "a/../../x",
            "/etc/x",
            "a/",
            "..\\x",
            "\\\\host\\x",
            "C:x",
            "C:/x",
            "x\0y",
        ];
        for outside in outside {
            assert!(!is_inside(outside), "{outside}");
        }
    }

    #[test]
    fn shards_are_in_the_order_of_their_names() {
        let index = br#"{"metadata": {"total_size": 1e3}, "weight_map": {"a": "z", "b": "m", "c": "z"}}"#;
        let index = Index::parse(index).unwrap();
        assert_eq!(index.shards, ["m", "z"]);
        assert_eq!(index.weights.values().copied().collect::<Vec<_>>(), [1, 0, 1]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let weights = BTreeMap::from([("a", "x".to_owned()), ("b\"\n", "y".to_owned())]);
        let index = Index::parse(&encode(&weights, 7)).unwrap();
        assert_eq!(index.shards, ["x", "y"]);
        assert_eq!(index.weights, BTreeMap::from([("a".to_owned(), 0), ("b\"\n".to_owned(), 1)]));
    }

    #[test]
    fn a_malformed_index_is_a_named_error() {
        let bad: [&[u8]; 6] = [
            b"",
            b"[]",
            b"{}",
            br#"{"weight_map": {"a": 1}}"#,
            br#"{"weight_map": {}, "weight_map": {}}"#,
            br#"{"weight_map": {}} x"#,
        ];
        for json in bad {
            let error = Index::parse(json).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Json { what: "index", .. }), "{error}");
        }
        let twice = Index::parse(br#"{"weight_map": {"a": "x", "\u0061": "x"}}"#).unwrap_err();
        assert!(matches!(twice.kind(), ErrorKind::DuplicateKey { key } if key == "a"), "{twice}");
        assert!(matches!(Index::parse(b"{\xff}").unwrap_err().kind(), ErrorKind::NotUtf8 { at: 1 }));
    }
}
