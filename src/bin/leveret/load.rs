//! How a model is loaded: the flags that several commands share.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use leveret::models::layers::attention;
use leveret::{Backend, Budget, Model, RunDtype, Transfer};

use crate::device::Devices;
use crate::hub::HubFlags;

/// What is run where no model is named: a directory, and no name on the hub.
pub const DEMO: &str = "./models/demo";

/// Flags of the same names as `Builder`'s methods.
#[derive(Debug, Args)]
pub struct Load {
    /// Directory with config.json, tokenizer.json and the safetensors files, or a model's name on the Hugging Face hub, as
    /// org/name or org/name@revision; a directory that exists wins.
    #[arg(long, env = "LEVERET_MODEL", default_value = DEMO, value_name = "MODEL")]
    pub model: PathBuf,
    #[command(flatten)]
    pub how: How,
}

/// Where and in which memory a model runs.
#[derive(Debug, Clone, Args)]
pub struct How {
    /// Where to run: cpu, cuda:0, cuda:0,cuda:1 (each with a part of the layers) or what else this build has; `auto` is
    /// a GPU if one can be used, else the CPU.
    #[arg(long, env = "LEVERET_DEVICE", default_value = "auto")]
    pub device: Devices,
    /// Memory for weights, KV cache and activations: a size such as 2GiB, `min` for the least that runs, or `free`
    /// for what is free less a margin.
    #[arg(long, env = "LEVERET_RAM", default_value = "free", value_name = "SIZE")]
    pub ram: Budget,
    /// Memory of a GPU for weights, KV cache and activations, in the same words; --ram is then what page-locked host
    /// memory may be taken for weights that are uploaded in each pass.
    #[arg(long, env = "LEVERET_VRAM", default_value = "free", value_name = "SIZE")]
    pub vram: Budget,
    /// Does not page-lock host memory: slower uploads.
    #[arg(long, env = "LEVERET_NO_PIN", value_parser = clap::builder::BoolishValueParser::new())]
    pub no_pin: bool,
    /// Dtype of hidden states and KV cache: float32, bfloat16, float16, or `auto` for what config.json says
    /// (`verify` takes it for float32).
    #[arg(long, env = "LEVERET_DTYPE", default_value = "auto")]
    pub dtype: RunDtype,
    /// Attention implementation.
    #[arg(long, env = "LEVERET_ATTENTION", default_value = "auto", value_parser = attention::NAMES)]
    pub attention: String,
    /// How streamed weights arrive: sync, prefetch or async.
    #[arg(long, env = "LEVERET_TRANSFER", default_value = "async")]
    pub transfer: Transfer,
    #[command(flatten)]
    pub hub: HubFlags,
    /// Whether the command shows times that need waiting for the device.
    #[arg(skip)]
    pub profile: bool,
    /// How many models the command runs beside each other.
    #[arg(skip = 1_usize)]
    pub models: usize,
}

impl How {
    /// Loads `model`, whose weights may still be coming.
    pub fn load<B: Backend>(&self, model: &Path, devices: Vec<B::Device>) -> leveret::Result<Model<B>> {
        let model = Model::<B>::builder(model)
            .devices(devices)
            .ram(self.ram)
            .vram(self.vram)
            .beside(self.models)
            .pin(!self.no_pin)
            .dtype(self.dtype)
            .attention(&self.attention)
            .transfer(self.transfer)
            .profile(self.profile)
            .hub(self.hub.hub())
            .load()?;
        if self.dtype == RunDtype::Float16 && model.config_dtype() == Some("bfloat16") {
            let warning = "warning: this model was made in bfloat16; in float16 large values overflow";
            let _ = writeln!(std::io::stderr(), "{warning}");
        }
        if self.vram != Budget::Free && !model.has_device_memory() {
            let warning = "warning: --vram says nothing to a device without memory of its own; --ram is its budget";
            let _ = writeln!(std::io::stderr(), "{warning}");
        }
        Ok(model)
    }
}
