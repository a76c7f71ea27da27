use super::access::ApiKey;
use super::origin::AllowedOrigin;

/// How a server works.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The name that the model is served under.
    pub name: String,
    /// Sequences that a pass serves at most.
    pub max_sequences: usize,
    /// Positions of each, prompt and reply together.
    pub context: usize,
    /// Requests that may wait for room, each with all its prompts and replies; others are refused.
    pub queue: usize,
    /// Seconds that a request may take, its body included.
    pub timeout: u64,
    /// Bytes that a request may have.
    pub body_limit: usize,
    /// What requests have to name, if anything.
    pub api_key: Option<ApiKey>,
    /// The name of the address that is listened on, if it has one beside its number.
    pub host: Option<String>,
    /// Whose pages may ask, beside the server's own.
    pub allow_origins: Vec<AllowedOrigin>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            name: "leveret".to_owned(),
            max_sequences: 8,
            context: 4096,
            queue: 64,
            timeout: 600,
            body_limit: 4 << 20,
            api_key: None,
            host: None,
            allow_origins: Vec::new(),
        }
    }
}
