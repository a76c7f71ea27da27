use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::DType;
use leveret_models::layers::{Attention, attention};
use leveret_models::{Architecture, Backend};
use serde_json::Value;

use super::Model;
use crate::chat::ChatTemplate;
use crate::checkpoint::Checkpoint;
use crate::config::{self, Config};
use crate::decoder;
use crate::encoder::Encoder;
use crate::engine::{Engine, Parts, Stage};
use crate::error::{Error, Result};
use crate::generation_config::GenerationConfig;
#[cfg(feature = "hub")]
use crate::hub::Hub;
use crate::io::Place;
use crate::memory::{self, Budget, Limit};
use crate::record::stored_dtype;
use crate::run_dtype::RunDtype;
use crate::stream::Transfer;
use crate::tokenizer::Tokenizer;
use crate::unit::Units;
use crate::upload::{self, Shared};

/// Says how a model is loaded; made by [`Model::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it loads"]
pub struct Builder<B: Backend> {
    path: PathBuf,
    devices: Vec<B::Device>,
    dtype: RunDtype,
    ram: Budget,
    vram: Budget,
    models: usize,
    pin: bool,
    transfer: Transfer,
    profile: bool,
    attention: Result<Box<dyn Attention<B>>>,
    open: decoder::Open<B>,
    #[cfg(feature = "hub")]
    hub: Option<Hub>,
}

impl<B: Backend> Builder<B> {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            devices: vec![B::Device::default()],
            dtype: RunDtype::default(),
            ram: Budget::default(),
            vram: Budget::default(),
            models: 1,
            pin: true,
            transfer: Transfer::default(),
            profile: false,
            attention: Ok(Box::new(leveret_models::layers::Flash)),
            open: decoder::open::<B>,
            #[cfg(feature = "hub")]
            hub: None,
        }
    }

    /// The device to run on; the backend's default otherwise.
    pub fn device(self, device: B::Device) -> Self {
        self.devices([device])
    }

    /// Several devices of one host to run on, each with a part of the layers, a stream and a budget of its own.
    ///
    /// `vram` is for each of them, `ram` for all together.
    pub fn devices(mut self, devices: impl IntoIterator<Item = B::Device>) -> Self {
        self.devices = devices.into_iter().collect();
        self
    }

    /// The dtype of hidden states and KV cache. Weights keep their own, as far as the backend has it.
    pub fn dtype(mut self, dtype: RunDtype) -> Self {
        self.dtype = dtype;
        self
    }

    /// The memory of the device that weights, KV cache and activations may take together, where it has its own.
    pub fn vram(mut self, budget: Budget) -> Self {
        self.vram = budget;
        self
    }

    /// Whether host memory that is uploaded from is page-locked, as it is by default: copies are slower without.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// The host memory that may be taken: on a CPU by weights, KV cache and activations together, for a device with
    /// memory of its own by weights that are uploaded in each pass.
    pub fn ram(mut self, budget: Budget) -> Self {
        self.ram = budget;
        self
    }

    /// The number of models that share the budgets evenly, this one among them.
    pub fn beside(mut self, models: usize) -> Self {
        self.models = models;
        self
    }

    /// How weights arrive that are not resident.
    pub fn transfer(mut self, transfer: Transfer) -> Self {
        self.transfer = transfer;
        self
    }

    /// Waits for the device after every unit, so that times can be told apart; a pass takes a little longer.
    pub fn profile(mut self, profile: bool) -> Self {
        self.profile = profile;
        self
    }

    /// A built-in attention implementation by name, one of [`attention::NAMES`]; `auto` otherwise.
    pub fn attention(mut self, name: &str) -> Self {
        self.attention = attention::by_name(name).ok_or_else(|| Error::Name {
            what: "attention implementation",
            found: name.to_owned(),
            expected: attention::NAMES.join(", "),
        });
        self
    }

    /// The hub that a model's name is looked up on; that of the environment otherwise.
    #[cfg(feature = "hub")]
    pub fn hub(mut self, hub: Hub) -> Self {
        self.hub = Some(hub);
        self
    }

    /// An attention implementation of your own.
    pub fn custom_attention(mut self, attention: impl Attention<B> + 'static) -> Self {
        self.attention = Ok(Box::new(attention));
        self
    }

    /// An architecture of your own, for configs with one of its types; it comes before a built-in one of the same type.
    pub fn custom_architecture<A: Architecture>(mut self) -> Self {
        self.open = decoder::open_with::<B, A>;
        self
    }

    /// Reads configs and headers, checks every tensor's name, shape and dtype, and reads no weights yet.
    ///
    /// Of a model on the hub just these are downloaded here; its weights begin to come when the first of them is used, and
    /// are computed with as they come.
    pub fn load(self) -> Result<Model<B>> {
        let pin = self.pin;
        self.load_by(&|device| upload::to::<B>(device, pin))
    }

    /// Where the checkpoint is.
    fn place(&self) -> Result<Place> {
        #[cfg(feature = "hub")]
        return self.hub.clone().unwrap_or_else(Hub::from_env).place(&self.path);
        #[cfg(not(feature = "hub"))]
        Ok(Place { dir: self.path.clone(), ..Place::default() })
    }

    /// The same, with weights that reach the devices by given ways.
    pub(crate) fn load_by(self, upload: &dyn Fn(&B::Device) -> Result<Shared<B>>) -> Result<Model<B>> {
        let place = self.place()?;
        let dir = place.dir;
        let config_path = dir.join("config.json");
        let text = config::read(&config_path)?;
        let decoder = (self.open)(&text).map_err(|error| Error::Config { path: config_path.clone(), error })?;
        let config = Config::parse(&config_path, &text)?;
        let tokenizer = Tokenizer::from_dir(&dir)?.map(Arc::new);
        let template = ChatTemplate::from_dir(&dir)?.map(Arc::new);
        let generation = GenerationConfig::from_dir(&dir, config.json())?;

        let checkpoint = Arc::new(Checkpoint::open_coming(&dir, &place.coming)?);
        // Asked before anything is made on a device: where something is missing, a backend may panic.
        let first = self.devices.first().cloned().ok_or(Error::NoDevices)?;
        let ram = Limit::new(self.ram, memory::available()?).shared_by(self.devices.len() * self.models);
        let stage = |device: B::Device| {
            let upload = upload(&device)?;
            Ok(match upload.has_own_memory() {
                true => {
                    let vram = Limit::new(self.vram, upload.available_memory()?).shared_by(self.models);
                    Stage::new(device, upload, vram, ram)
                }
                false => Stage::new(device, upload, ram, Limit::default()),
            })
        };
        let stages = self.devices.into_iter().map(stage).collect::<Result<_>>()?;

        let units = Units::cut(&checkpoint, &decoder.outline(config.tied(&config_path)?, &first), config.format())?;
        let dtype = match self.dtype {
            RunDtype::Auto => config.dtype(&config_path)?.unwrap_or(units.embedding_dtype),
            RunDtype::Float32 => DType::F32,
            RunDtype::Bfloat16 => DType::BF16,
            RunDtype::Float16 => DType::F16,
        };
        let parts = Parts {
            decoder,
            checkpoint,
            attention: self.attention?,
            dtype: stored_dtype::<B>(dtype, &first),
            transfer: self.transfer,
            profile: self.profile,
        };
        let engine = Engine::new(parts, units, stages)?;
        let (units, bytes) = (engine.units().len(), engine.checkpoint().bytes());
        tracing::debug!(dir = %dir.display(), units, bytes, dtype = ?engine.dtype(), "opened a checkpoint");
        let config_dtype = config.dtype_name().and_then(Value::as_str).map(str::to_owned);
        let encoder = Encoder { dir, tokenizer, template };
        Ok(Model { engine, encoder, generation, config_dtype, format: config.format() })
    }
}
