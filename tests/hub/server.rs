//! A hub that speaks as the real one does, and fails as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use leveret::Hub;
use serde_json::json;
use sha2::{Digest, Sha256};

/// The one model that it has.
pub const MODEL: &str = "org/demo";
pub const COMMIT: &str = "c0ffee0123456789c0ffee0123456789c0ffee01";
pub const TOKEN: &str = "hf_secret";

/// A running hub, and a cache of its own.
pub struct Server {
    pub endpoint: String,
    pub cache: tempfile::TempDir,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    port: u16,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    log: Mutex<Vec<Request>>,
    faults: Mutex<Faults>,
    changed: Condvar,
}

/// What goes wrong, or otherwise than usual.
#[derive(Clone, Default)]
pub struct Faults {
    /// So many answers with weights are cut off …
    pub cuts: usize,
    /// … after so many bytes.
    pub cut_after: usize,
    /// Weights stop here until they are let go on.
    pub hold_after: Option<usize>,
    /// A range is not looked at.
    pub no_ranges: bool,
    /// One byte of weights comes otherwise than it is.
    pub damaged: Option<usize>,
    /// Weights are shorter by this than the list says.
    pub shorter: usize,
    /// The list says that files are this long.
    pub listed: Option<u64>,
    /// Every file has other bytes than the list says.
    pub other_bytes: bool,
    /// What is answered to everything, with a name for the reason.
    pub status: Option<(u16, &'static str)>,
    /// What is answered instead of files.
    pub file_status: Option<(u16, &'static str)>,
    /// So many requests are answered with 503.
    pub busy: usize,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub host: String,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

impl Server {
    /// Serves the files of a directory.
    pub fn start(dir: &Path) -> Self {
        let read =
            |path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap());
        let files = std::fs::read_dir(dir).unwrap().map(|entry| read(entry.unwrap().path())).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { port, files: Mutex::new(files), ..State::default() });
        let served = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = served.clone();
                // A client may go away before it has heard all.
                std::thread::spawn(move || drop(state.answer(stream.unwrap())));
            }
        });
        let cache = tempfile::tempdir().unwrap();
        Self { endpoint: format!("http://127.0.0.1:{port}"), cache, state }
    }

    /// This hub, with its cache and nothing of the environment's.
    pub fn hub(&self) -> Hub {
        Hub::from_env().endpoint(&self.endpoint).cache_dir(self.cache.path()).offline(false).token("").tries(3)
    }

    pub fn fail(&self, faults: Faults) {
        *self.state.faults.lock().unwrap() = faults;
        self.state.changed.notify_all();
    }

    pub fn add(&self, name: &str, bytes: &[u8]) {
        self.state.files.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
    }

    pub fn remove(&self, name: &str) {
        self.state.files.lock().unwrap().remove(name);
    }

    /// What was asked since the last time.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.log.lock().unwrap())
    }

    /// Where the cache has the model.
    pub fn root(&self) -> PathBuf {
        self.cache.path().join("models--org--demo")
    }

    pub fn snapshot(&self) -> PathBuf {
        self.root().join("snapshots").join(COMMIT)
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let path = lines.next().unwrap()?.split(' ').nth(1).unwrap().to_owned();
        let mut headers = BTreeMap::new();
        for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let request = Request {
            host: headers["host"].clone(),
            path: path.clone(),
            range: headers.get("range").cloned(),
            authorization: headers.get("authorization").cloned(),
        };
        self.log.lock().unwrap().push(request.clone());
        let faults = self.faults.lock().unwrap().clone();
        let busy = std::mem::replace(&mut self.faults.lock().unwrap().busy, faults.busy.saturating_sub(1)) > 0;
        let plain = path.split('?').next().unwrap();
        if busy {
            return head(&mut stream, 503, &[]);
        }
        if let Some((status, code)) = faults.status {
            return head(&mut stream, status, &[("X-Error-Code", code)]);
        }
        if let Some(revision) = plain.strip_prefix(&format!("/api/models/{MODEL}/revision/")) {
            return match ["main", "refs%2Fpr%2F1", COMMIT].contains(&revision) {
                true => whole(&mut stream, self.list(&faults).as_bytes(), &[]),
                false => head(&mut stream, 404, &[("X-Error-Code", "RevisionNotFound")]),
            };
        }
        if let Some(name) = plain.strip_prefix("/storage/") {
            return self.weights(&mut stream, name, &request, &faults);
        }
        let Some(name) = plain.strip_prefix(&format!("/{MODEL}/resolve/{COMMIT}/")) else {
            return head(&mut stream, 404, &[("X-Error-Code", "RepoNotFound")]);
        };
        if let Some((status, code)) = faults.file_status {
            return head(&mut stream, status, &[("X-Error-Code", code)]);
        }
        let Some(bytes) = self.files.lock().unwrap().get(name).cloned() else {
            return head(&mut stream, 404, &[("X-Error-Code", "EntryNotFound")]);
        };
        let etag = if faults.other_bytes { etag(b"other") } else { etag(&bytes) };
        match name.ends_with(".safetensors") {
            true => {
                let location = format!("http://localhost:{}/storage/{name}?signature=secret", self.port);
                let etag = format!("\"{etag}\"");
                head(&mut stream, 302, &[("Location", &location), ("X-Linked-Etag", &etag), ("ETag", "\"pointer\"")])
            }
            false => whole(&mut stream, &bytes, &[("ETag", &format!("W/\"{etag}\""))]),
        }
    }

    fn list(&self, faults: &Faults) -> String {
        let file = |(name, bytes): (&String, &Vec<u8>)| {
            let size = faults.listed.unwrap_or(bytes.len() as u64);
            let mut file = json!({ "rfilename": name, "size": size, "blobId": etag(bytes) });
            if name.ends_with(".safetensors") {
                file["blobId"] = "pointer".into();
                file["lfs"] = json!({ "sha256": etag(bytes), "size": size, "pointerSize": 134 });
            }
            file
        };
        let files: Vec<_> = self.files.lock().unwrap().iter().map(file).collect();
        json!({ "id": MODEL, "sha": COMMIT, "siblings": files }).to_string()
    }

    /// Bytes from storage, which may be cut off or held back.
    fn weights(&self, stream: &mut TcpStream, name: &str, request: &Request, faults: &Faults) -> std::io::Result<()> {
        let mut bytes = self.files.lock().unwrap()[name].clone();
        if let Some(damaged) = faults.damaged {
            bytes[damaged] ^= 1;
        }
        let bytes = &bytes[..bytes.len() - faults.shorter];
        let range =
            request.range.as_deref().filter(|_| !faults.no_ranges).and_then(|range| range.strip_prefix("bytes="));
        let (start, end) = range.map_or((0, bytes.len()), |range| {
            let (start, end) = range.split_once('-').unwrap();
            (start.parse().unwrap(), end.parse().map_or(bytes.len(), |end: usize| end + 1))
        });
        let part = &bytes[start..end];
        let (length, content_range) = (part.len().to_string(), format!("bytes {start}-{}/{}", end - 1, bytes.len()));
        match range {
            Some(_) => head(stream, 206, &[("Content-Length", &length), ("Content-Range", &content_range)])?,
            None => head(stream, 200, &[("Content-Length", &length)])?,
        }
        // Headers of files are asked for apart, and come.
        let is_rest = request.range.as_ref().is_some_and(|range| range.ends_with('-'));
        let mut sent = 0;
        if let Some(hold) = faults.hold_after.filter(|hold| is_rest && start + part.len() > *hold) {
            sent = hold.saturating_sub(start);
            stream.write_all(&part[..sent])?;
            let faults = self.faults.lock().unwrap();
            drop(self.changed.wait_while(faults, |faults| faults.hold_after.is_some()).unwrap());
        }
        let mut faults = self.faults.lock().unwrap();
        if is_rest && faults.cuts > 0 {
            faults.cuts -= 1;
            return stream.write_all(&part[sent..faults.cut_after.clamp(sent, part.len())]);
        }
        drop(faults);
        stream.write_all(&part[sent..])
    }
}

/// What a file's bytes are called.
pub fn etag(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn whole(stream: &mut TcpStream, bytes: &[u8], headers: &[(&str, &str)]) -> std::io::Result<()> {
    let length = bytes.len().to_string();
    head(stream, 200, &[&[("Content-Length", &*length)], headers].concat())?;
    stream.write_all(bytes)
}

fn head(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} x\r\nConnection: close\r\n")?;
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        write!(stream, "Content-Length: 0\r\n")?;
    }
    headers.iter().try_for_each(|(name, value)| write!(stream, "{name}: {value}\r\n"))?;
    write!(stream, "\r\n")
}
