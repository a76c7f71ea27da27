//! Which of the compiled-in backends runs.

use std::str::FromStr;

use anyhow::{Result, bail};
use leveret::Backend;

/// A backend and one of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    #[cfg(feature = "flex")]
    Flex,
    #[cfg(feature = "ndarray")]
    NdArray,
    #[cfg(feature = "cuda")]
    Cuda(usize),
    #[cfg(feature = "wgpu")]
    Wgpu(usize),
}

/// The names that `--device` takes in this build, the default first.
const NAMES: &[&str] = &[
    #[cfg(any(feature = "flex", feature = "ndarray"))]
    "cpu",
    #[cfg(feature = "cuda")]
    "cuda[:N]",
    #[cfg(feature = "wgpu")]
    "wgpu[:N]",
    #[cfg(feature = "flex")]
    "flex",
    #[cfg(feature = "ndarray")]
    "ndarray",
];

/// What some build may have.
const KNOWN: [&str; 5] = ["cpu", "cuda", "flex", "ndarray", "wgpu"];

/// Work that any backend can do.
pub trait Task {
    /// Does it on a device of `B`.
    fn run<B: Backend>(self, device: B::Device) -> Result<()>;
}

impl Device {
    /// The first device of this build.
    pub fn default_name() -> &'static str {
        NAMES.first().map_or("none", |name| name.trim_end_matches("[:N]"))
    }

    /// Hands the device to work that is generic over backends.
    #[cfg_attr(not(any(feature = "flex", feature = "ndarray", feature = "cuda", feature = "wgpu")), expect(unused))]
    pub fn run(self, task: impl Task) -> Result<()> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => task.run::<burn::backend::Flex>(Default::default()),
            #[cfg(feature = "ndarray")]
            Self::NdArray => task.run::<burn::backend::NdArray>(Default::default()),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => task.run::<burn::backend::Cuda>(burn::backend::cuda::CudaDevice::new(index)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(0) => task.run::<burn::backend::Wgpu>(Default::default()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(index) => task.run::<burn::backend::Wgpu>(burn::backend::wgpu::WgpuDevice::DiscreteGpu(index)),
        }
    }
}

impl FromStr for Device {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
        let _index: usize = match index.parse() {
            Ok(index) => index,
            Err(_) => bail!("`{index}` is not a device number; expected {}", NAMES.join(", ")),
        };
        match kind {
            "cpu" | "flex" | "ndarray" if _index > 0 => bail!("`{name}`: there is one CPU; expected {kind}"),
            #[cfg(feature = "flex")]
            "cpu" | "flex" => Ok(Self::Flex),
            #[cfg(all(feature = "ndarray", not(feature = "flex")))]
            "cpu" => Ok(Self::NdArray),
            #[cfg(feature = "ndarray")]
            "ndarray" => Ok(Self::NdArray),
            #[cfg(feature = "cuda")]
            "cuda" => Ok(Self::Cuda(_index)),
            #[cfg(feature = "wgpu")]
            "wgpu" => Ok(Self::Wgpu(_index)),
            kind if KNOWN.contains(&kind) => {
                let feature = if kind == "cpu" { "flex" } else { kind };
                bail!("this build has no `{kind}`; expected {}, or build with --features {feature}", NAMES.join(", "))
            }
            _ => bail!("unknown device `{name}`; expected {}", NAMES.join(", ")),
        }
    }
}
