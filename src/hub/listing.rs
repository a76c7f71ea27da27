use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::RepoId;
use super::client::{Client, encode, lost};
use super::repo_id::{is_commit, is_plain};
use super::settings::Hub;
use crate::error::{Error, Result};

/// The files of a model at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    files: BTreeMap<String, RemoteFile>,
}

/// A file on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// What the cache calls its bytes.
    pub(super) etag: String,
}

/// The file that all weights are in, where there is one.
pub(super) const SINGLE: &str = "model.safetensors";
/// The file that says in which files weights are.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// What is read of a model beside its weights, if it is there.
const SMALL: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

impl Listing {
    /// Asks the hub.
    pub(super) fn ask(hub: &Hub, client: &Client, id: &RepoId) -> Result<Self> {
        let url = format!("{}/api/models/{}/revision/{}?blobs=true", hub.endpoint, id.name(), encode(id.revision()));
        let bytes = client.bytes(&url, None).map_err(|failure| failure.explain(hub, id, None))?;
        Self::read(&bytes).map_err(|reason| lost(&url, &reason).explain(hub, id, None))
    }

    fn read(json: &[u8]) -> Result<Self, String> {
        let answer: Answer = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let files = answer.siblings.into_iter().filter_map(Sibling::file);
        let files: BTreeMap<_, _> = files.map(|file| (file.name.clone(), file)).collect();
        let are_named = files.values().all(|file| is_plain(&file.etag));
        match is_commit(&answer.sha) && are_named {
            true => Ok(Self { commit: answer.sha, files }),
            false => Err("the answer names no commit, or files without their bytes' names".to_owned()),
        }
    }

    /// What is needed beside weights: config, tokenizer, templates, and the index of weights.
    pub(super) fn small_files(&self) -> Vec<RemoteFile> {
        let index = if self.files.contains_key(SINGLE) { None } else { Some(INDEX) };
        let named = SMALL.into_iter().chain(index).filter_map(|name| self.files.get(name));
        let template = |name: &str| {
            let inner = name.strip_prefix("additional_chat_templates/");
            inner.is_some_and(|inner| is_plain(inner) && inner.ends_with(".jinja"))
        };
        named.chain(self.files.values().filter(|file| template(&file.name))).cloned().collect()
    }

    /// The files of weights; `index` is the text of the index, if there is one.
    pub(super) fn weights(&self, id: &RepoId, index: Option<&str>) -> Result<Vec<RemoteFile>> {
        if let Some(file) = self.files.get(SINGLE) {
            return Ok(vec![file.clone()]);
        }
        let Some(index) = index else { return Err(self.no_weights(id)) };
        let find = |name: String| {
            self.files.get(&name).cloned().ok_or_else(|| Error::MissingShard { index: INDEX.into(), shard: name })
        };
        shards(index).map_err(|reason| Error::Json { path: INDEX.into(), reason })?.into_iter().map(find).collect()
    }

    fn no_weights(&self, id: &RepoId) -> Error {
        let any = |ends: &[&str]| self.files.keys().any(|name| ends.iter().any(|end| name.ends_with(end)));
        let found = match () {
            () if any(&[".bin", ".pt", ".pth", ".ckpt", ".pkl"]) => "pickles, which run code when they are loaded",
            () if any(&[".gguf"]) => "GGUF files, which are not read",
            () => "none",
        };
        Error::NoWeights { model: id.to_string(), found }
    }
}

/// The files that an index names, in their order.
pub(super) fn shards(index: &str) -> Result<BTreeSet<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_str(index).map_err(|error| error.to_string())?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    match shards.iter().find(|shard| !shard.split('/').all(is_plain)) {
        Some(shard) => Err(format!("it names `{shard}`, which is no plain name")),
        None => Ok(shards),
    }
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Large>,
}

/// A file in large storage.
#[derive(Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

impl Sibling {
    fn file(self) -> Option<RemoteFile> {
        let (bytes, etag) = match self.lfs {
            Some(large) => (large.size, large.sha256),
            None => (self.size?, self.blob_id?),
        };
        Some(RemoteFile { name: self.rfilename, bytes, etag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(files: &[&str]) -> Listing {
        let siblings: Vec<_> =
            files.iter().map(|name| serde_json::json!({ "rfilename": name, "size": 1, "blobId": "ab" })).collect();
        let json = serde_json::json!({ "sha": "0".repeat(40), "siblings": siblings });
        Listing::read(json.to_string().as_bytes()).unwrap()
    }

    fn names(files: &[RemoteFile]) -> Vec<&str> {
        files.iter().map(|file| &*file.name).collect()
    }

    #[test]
    fn only_what_is_read_is_wanted() {
        let all = [
            "config.json",
            "README.md",
            "tokenizer.json",
            "pytorch_model.bin",
            "model-1.safetensors",
            INDEX,
            "consolidated.safetensors",
            "additional_chat_templates/tool.jinja",
            "additional_chat_templates/../x.jinja",
        ];
        let (listing, id) = (listing(&all), "a/b".parse().unwrap());
        let small = ["config.json", "tokenizer.json", INDEX, "additional_chat_templates/tool.jinja"];
        assert_eq!(names(&listing.small_files()), small);
        let index = r#"{"weight_map": {"x": "model-1.safetensors", "y": "model-1.safetensors"}}"#;
        assert_eq!(names(&listing.weights(&id, Some(index)).unwrap()), ["model-1.safetensors"]);
        assert!(listing.weights(&id, Some(r#"{"weight_map": {"x": "model-2.safetensors"}}"#)).is_err());
        assert!(listing.weights(&id, Some(r#"{"weight_map": {"x": "../config.json"}}"#)).is_err());
    }

    #[test]
    fn pickles_are_refused_by_name() {
        let id = "a/b".parse().unwrap();
        let error = |files: &[&str]| listing(files).weights(&id, None).unwrap_err().to_string();
        assert!(error(&["config.json", "pytorch_model.bin"]).contains("pickles"));
        assert!(error(&["model.gguf"]).contains("GGUF"));
        assert!(error(&[]).contains("none"));
    }
}
