use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use leveret::{AllowedOrigin, ApiKey, Backend, Server, ServerOptions};

use crate::device::Task;
use crate::load::{DEMO, How};
use crate::units::at_least_one;

/// Serves a model over HTTP, as OpenAI's API does, with a page to chat in; one pass serves all who wait.
#[derive(Debug, Args)]
pub struct Serve {
    /// Directory of the checkpoint, or a model's name on the Hugging Face hub, as org/name[@revision]; a directory that
    /// exists wins.
    #[arg(env = "LEVERET_MODEL", default_value = DEMO)]
    model: PathBuf,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "LEVERET_PORT", default_value_t = 8080, value_name = "P")]
    port: u16,
    /// Address to listen on; 0.0.0.0 is reached from other machines.
    #[arg(long, env = "LEVERET_HOST", default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: String,
    /// Key that requests have to name, as `Authorization: Bearer KEY`.
    #[arg(long, env = "LEVERET_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<ApiKey>,
    /// Origin whose pages may ask, such as https://chat.example.org, beside the server's own page; `*` is any. On loopback
    /// it is also a name that the server goes by. May be given several times.
    #[arg(long, env = "LEVERET_ALLOW_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    allow_origin: Vec<AllowedOrigin>,
    /// Name that the model is served under [default: that of its directory, or its own on the hub].
    #[arg(long, value_name = "NAME")]
    served_name: Option<String>,
    /// Sequences that a pass serves at most; memory for them is taken at the start.
    #[arg(long, env = "LEVERET_MAX_SEQUENCES", default_value_t = 8, value_name = "N", value_parser = at_least_one)]
    max_sequences: usize,
    /// Positions of each sequence, prompt and reply together [default: 4096, or as many as the model has].
    #[arg(long, env = "LEVERET_CONTEXT", value_name = "N", value_parser = at_least_one)]
    context: Option<usize>,
    /// Requests that may wait for room, each with all its prompts and replies; others get status 429.
    #[arg(long, env = "LEVERET_QUEUE", default_value_t = 64, value_name = "N", value_parser = at_least_one)]
    queue: usize,
    /// Seconds after which a request gets status 504, or 408 while its body is not here.
    #[arg(long, env = "LEVERET_TIMEOUT", default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
    /// Bytes that a request may have.
    #[arg(long, env = "LEVERET_BODY_LIMIT", default_value_t = 4 << 20, value_name = "BYTES", value_parser = at_least_one)]
    body_limit: usize,
    #[command(flatten)]
    how: How,
}

impl Serve {
    pub fn run(self) -> Result<()> {
        self.how.device.clone().run(self)
    }
}

impl Task for Serve {
    fn run<B: Backend>(self, devices: Vec<B::Device>) -> Result<()> {
        let host = self.host.trim_matches(['[', ']']);
        // Before the model is waited for.
        let listener = TcpListener::bind((host, self.port)).map_err(|error| {
            let advice = "choose another --port (0 takes a free one) or --host";
            anyhow::anyhow!("{host}:{}: {error}; {advice}", self.port)
        })?;
        let model = self.how.load::<B>(&self.model, devices)?;
        let lacks = match (model.tokenizer().is_some(), model.has_chat_template()) {
            (true, true) => None,
            (true, false) => Some("no chat template: conversations are refused, texts are gone on with"),
            (false, _) => Some("no tokenizer.json: texts and conversations are refused, token ids are gone on with"),
        };
        if let Some(lacks) = lacks {
            let _ = writeln!(std::io::stderr(), "warning: {} has {lacks}", self.model.display());
        }
        let name = match self.model.canonicalize() {
            Ok(directory) => directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Err(_) => self.model.to_string_lossy().split('@').next().unwrap_or_default().to_owned(),
        };
        let options = ServerOptions {
            name: self.served_name.unwrap_or(name),
            max_sequences: self.max_sequences,
            context: self.context.unwrap_or(4096).min(model.dims().max_positions),
            queue: self.queue,
            timeout: self.timeout,
            body_limit: self.body_limit,
            api_key: self.api_key,
            host: Some(host.to_owned()),
            allow_origins: self.allow_origin,
        };
        let open = options.api_key.is_none();
        let server = Server::new(model, options)?;
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() && open {
            let _ = writeln!(std::io::stderr(), "warning: other machines reach this server, and no --api-key is set");
        }
        writeln!(std::io::stdout(), "listening on http://{address}")?;
        std::io::stdout().flush()?;
        server.run(listener, interrupted())?;
        Ok(())
    }
}

/// Waits for Ctrl-C, or for what ends services; the second time the process ends at once.
async fn interrupted() {
    signal().await;
    let _ = writeln!(std::io::stderr(), "ending what has been begun; press Ctrl-C again to end at once");
    tokio::spawn(async {
        signal().await;
        std::process::exit(130);
    });
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

#[cfg(not(unix))]
async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}
