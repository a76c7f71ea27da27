//! From a model's name on the Hugging Face hub to a local directory, which may still be filling.

mod arrival;
mod blob;
mod cache;
mod cached;
mod checksum;
mod client;
mod coming_file;
mod environment;
mod event;
mod failure;
mod heads;
mod listing;
mod pull;
mod removal;
mod repo_id;
mod settings;
mod token;

pub use cached::CachedModel;
pub use event::PullEvent;
pub use removal::Removal;
pub use repo_id::RepoId;
pub use settings::Hub;
pub use token::HubToken;
