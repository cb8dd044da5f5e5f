//! Downloads from a server on this machine that answers as the hub does.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use formwork_recipes::hub::{Download, download};
use serde_json::json;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server has and does.
#[derive(Default)]
struct Hub {
    /// By `owner/name`.
    models: BTreeMap<&'static str, BTreeMap<&'static str, Vec<u8>>>,
    /// Models that want a token.
    gated: Vec<&'static str>,
    /// Files whose bodies break off in the middle.
    broken: Vec<&'static str>,
    /// Files that are sent from another address, as large ones are.
    large: Vec<&'static str>,
    /// Every request line.
    requests: Mutex<Vec<String>>,
}

struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    /// Bytes of the body that are sent.
    sent: usize,
}

impl Answer {
    fn new(status: &'static str, headers: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: headers.into(), sent: body.len(), body }
    }

    fn error(status: &'static str, code: &str) -> Self {
        Self::new(status, format!("X-Error-Code: {code}\r\n"), json!({"error": code}).to_string())
    }
}

impl Hub {
    /// The address of a server that answers for as long as the test runs.
    fn start(self) -> (String, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let hub = Arc::new(self);
        let server = hub.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = server.clone();
                thread::spawn(move || hub.serve(stream));
            }
        });
        (address, hub)
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut request = String::new();
        reader.read_line(&mut request).ok()?;
        let (mut has_token, mut line) = (false, String::new());
        while reader.read_line(&mut line).ok()? > 2 {
            has_token |= line.to_lowercase().starts_with("authorization: bearer good");
            line.clear();
        }
        let mut words = request.split_whitespace();
        let (method, path) = (words.next()?, words.next()?.split('?').next()?.to_owned());
        self.requests.lock().unwrap().push(format!("{method} {path}"));
        let answer = self.answer(&path, has_token);
        let mut head = format!(
            "HTTP/1.1 {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            answer.status,
            answer.body.len()
        );
        write!(head, "{}\r\n", answer.headers).ok()?;
        stream.write_all(head.as_bytes()).ok()?;
        if method != "HEAD" {
            stream.write_all(&answer.body[..answer.sent]).ok()?;
        }
        stream.flush().ok()
    }

    fn answer(&self, path: &str, has_token: bool) -> Answer {
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        let (owner, name, rest) = match parts[..] {
            ["api", "models", owner, name, ref rest @ ..] => (owner, name, [&["api"], rest].concat()),
            ["blobs", owner, name, ref rest @ ..] => (owner, name, [&["blobs"], rest].concat()),
            [owner, name, ref rest @ ..] => (owner, name, rest.to_vec()),
            _ => return Answer::error("404 Not Found", "RepoNotFound"),
        };
        let name = format!("{owner}/{name}");
        let Some(files) = self.models.get(name.as_str()) else {
            // What the hub says to who asks without a token.
            return Answer::error("401 Unauthorized", "RepoNotFound");
        };
        let file = match rest[..] {
            ["api"] | ["api", "revision", "main" | COMMIT] => {
                let siblings: Vec<_> = files.keys().map(|file| json!({"rfilename": file})).collect();
                let info = json!({"_id": "1", "id": name, "sha": COMMIT, "siblings": siblings});
                return Answer::new("200 OK", "Content-Type: application/json\r\n", info.to_string());
            }
            ["api", "tree", "main" | COMMIT] => {
                let entry = |(file, bytes): (&&str, &Vec<u8>)| json!({"type": "file", "oid": "x", "size": bytes.len(), "path": file});
                let mut entries: Vec<_> = files.iter().map(entry).collect();
                entries.push(json!({"type": "directory", "oid": "y", "size": 0, "path": "onnx"}));
                return Answer::new(
                    "200 OK",
                    "Content-Type: application/json\r\n",
                    json!(entries).to_string(),
                );
            }
            ["api", ..] => return Answer::error("404 Not Found", "RevisionNotFound"),
            ["resolve", "main" | COMMIT, file] | ["blobs", file] => file,
            _ => return Answer::error("404 Not Found", "RevisionNotFound"),
        };
        if self.gated.contains(&name.as_str()) && !has_token {
            return Answer::error("401 Unauthorized", "GatedRepo");
        }
        let Some(bytes) = files.get(file) else { return Answer::error("404 Not Found", "EntryNotFound") };
        let etag = format!("\"etag-{}-{file}\"", name.replace('/', "-"));
        let headers = format!("X-Repo-Commit: {COMMIT}\r\nETag: {etag}\r\n");
        if self.large.contains(&file) && rest[0] == "resolve" {
            let to = format!(
                "{headers}X-Linked-Etag: {etag}\r\nX-Linked-Size: {}\r\nLocation: /blobs/{name}/{file}\r\n",
                bytes.len()
            );
            return Answer::new("302 Found", to, "");
        }
        let mut answer = Answer::new("200 OK", headers, bytes.clone());
        if self.broken.contains(&file) {
            answer.sent /= 2;
        }
        answer
    }
}

fn files(list: &[(&'static str, &str)]) -> BTreeMap<&'static str, Vec<u8>> {
    list.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect()
}

fn hub() -> Hub {
    let single = files(&[
        ("config.json", "{}"),
        ("tokenizer.json", "{1}"),
        ("model.safetensors", "numbers"),
        ("README.md", "x"),
    ]);
    let index = r#"{"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}"#;
    let sharded = files(&[
        ("config.json", "{}"),
        ("model.safetensors.index.json", index),
        ("model-1-of-2.safetensors", "one"),
        ("model-2-of-2.safetensors", "two"),
        ("pytorch_model.bin", "not wanted"),
    ]);
    let escaping = r#"{"weight_map": {"a": "../model.safetensors"}}"#;
    let models = BTreeMap::from([
        ("me/single", single),
        ("me/sharded", sharded),
        ("me/one-gguf", files(&[("m-q8_0.gguf", "GGUF")])),
        ("me/ggufs", files(&[("a.gguf", "GGUF a"), ("b.gguf", "GGUF b")])),
        ("me/pickle", files(&[("config.json", "{}"), ("pytorch_model.bin", "x")])),
        ("me/no-config", files(&[("model.safetensors", "x")])),
        ("me/hole", files(&[("config.json", "{}"), ("model.safetensors.index.json", index)])),
        ("me/escaping", files(&[("config.json", "{}"), ("model.safetensors.index.json", escaping)])),
    ]);
    Hub { models, ..Hub::default() }
}

fn options(endpoint: &str, cache: &tempfile::TempDir) -> Download {
    let (endpoint, cache) = (Some(endpoint.to_owned()), Some(cache.path().to_owned()));
    Download { endpoint, cache, ..Download::default() }
}

#[test]
fn a_folder_has_what_loading_needs_and_is_fetched_once() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, server) =
        Hub { large: vec!["model.safetensors", "model-1-of-2.safetensors"], ..hub() }.start();
    let check = |name: &str, expected: &[(&str, &str)]| {
        let folder = download(name, &options(&endpoint, &cache)).unwrap();
        let mut found: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        found.sort();
        assert_eq!(found, expected.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (name, text) in expected {
            assert_eq!(std::fs::read_to_string(folder.join(name)).unwrap(), *text);
        }
    };
    let single = [("config.json", "{}"), ("model.safetensors", "numbers"), ("tokenizer.json", "{1}")];
    check("me/single", &single);
    let index =
        String::from_utf8(hub().models["me/sharded"]["model.safetensors.index.json"].clone()).unwrap();
    let sharded = [
        ("config.json", "{}"),
        ("model-1-of-2.safetensors", "one"),
        ("model-2-of-2.safetensors", "two"),
        ("model.safetensors.index.json", &index),
    ];
    check("me/sharded", &sharded);
    server.requests.lock().unwrap().clear();
    check("me/single", &single);
    let requests = server.requests.lock().unwrap();
    assert!(requests.iter().all(|line| line.contains("/api/models/")), "{requests:?}");
}

#[test]
fn a_gguf_file_is_fetched_by_name_or_where_it_is_the_only_one() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, _) = hub().start();
    let only = download("me/one-gguf", &options(&endpoint, &cache)).unwrap();
    assert!(only.ends_with("m-q8_0.gguf") && std::fs::read(only).unwrap() == b"GGUF");
    let named = Download { file: Some("b.gguf".into()), ..options(&endpoint, &cache) };
    assert_eq!(std::fs::read(download("me/ggufs", &named).unwrap()).unwrap(), b"GGUF b");
}

#[test]
fn what_the_hub_does_not_have_is_said_in_one_sentence() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, _) = hub().start();
    let check = |name: &str, change: &dyn Fn(&mut Download), expected: &str| {
        let mut options = options(&endpoint, &cache);
        change(&mut options);
        let error = download(name, &options).unwrap_err().to_string();
        assert!(error.contains(expected) && error.lines().count() == 1, "{name}: {error}");
    };
    check("me/nothing", &|_| {}, "missing a model me/nothing on the hub; check the name");
    check("gpt2", &|_| {}, "hub: expected a model's name such as owner/name, found \"gpt2\"");
    check("me/../etc", &|_| {}, "expected a model's name");
    check("me/single", &|o| o.revision = Some("v9".into()), "missing a revision v9 of me/single");
    check("me/single", &|o| o.file = Some("x.gguf".into()), "missing x.gguf in me/single");
    check("me/ggufs", &|o| o.file = Some("x.gguf".into()), "it has a.gguf, b.gguf");
    check("me/ggufs", &|_| {}, "found 2 of them; name the file, such as a.gguf");
    check(
        "me/pickle",
        &|_| {},
        "missing model.safetensors, model.safetensors.index.json or a .gguf file in me/pickle",
    );
    check("me/no-config", &|_| {}, "missing config.json in me/no-config");
    check("me/hole", &|_| {}, "missing model-1-of-2.safetensors in me/hole");
    check("me/escaping", &|_| {}, "weight_map: expected names of files");
}

#[test]
fn a_model_whose_owner_grants_access_wants_a_token() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, _) = Hub { gated: vec!["me/single"], ..hub() }.start();
    // An empty token must not be taken for the one that stands in this machine's settings.
    let wrong = Download { token: Some("bad".into()), ..options(&endpoint, &cache) };
    let error = download("me/single", &wrong).unwrap_err().to_string();
    assert!(
        error.contains("expected access to me/single, found a refusal; its owner grants access"),
        "{error}"
    );
    let right = Download { token: Some("good".into()), ..options(&endpoint, &cache) };
    assert!(download("me/single", &right).unwrap().join("model.safetensors").is_file());
}

#[test]
fn a_connection_that_breaks_leaves_no_half_file_behind() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, _) = Hub { broken: vec!["model.safetensors"], ..hub() }.start();
    let error = download("me/single", &options(&endpoint, &cache)).unwrap_err().to_string();
    assert!(
        error.contains(
            "model.safetensors: hub: expected an answer from the hub, found a connection that broke;"
        ),
        "{error}"
    );
    // The same cache, another day.
    let (endpoint, _) = hub().start();
    let folder = download("me/single", &options(&endpoint, &cache)).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), b"numbers");
}

#[test]
fn a_hub_that_does_not_answer_is_said_so() {
    let cache = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = download("me/single", &options(&format!("http://{closed}"), &cache)).unwrap_err().to_string();
    assert!(error.contains("found no connection; check the network"), "{error}");
}
