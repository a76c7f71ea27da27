//! Which of the compiled-in backends runs, on which of its devices.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use leveret::Backend;

/// Devices of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// As the user wrote them.
    name: String,
    kind: Kind,
    /// As the user counts them; one CPU may be named several times.
    indices: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A GPU if one can be used, else the CPU.
    Auto,
    #[cfg(feature = "flex")]
    Flex,
    #[cfg(feature = "ndarray")]
    NdArray,
    #[cfg(feature = "cuda")]
    Cuda,
    #[cfg(feature = "wgpu")]
    Wgpu,
}

/// The names that `--device` takes in this build.
const NAMES: &[&str] = &[
    "auto",
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
    /// Does it on devices of `B`.
    fn run<B: Backend>(self, devices: Vec<B::Device>) -> Result<()>;
}

impl Devices {
    /// Hands the devices to work that is generic over backends.
    pub fn run(&self, task: impl Task) -> Result<()> {
        match self.kind {
            Kind::Auto => self.resolve()?.run(task),
            #[cfg(feature = "flex")]
            Kind::Flex => task.run::<burn::backend::Flex>(self.map(|_| Default::default())),
            #[cfg(feature = "ndarray")]
            Kind::NdArray => task.run::<burn::backend::NdArray>(self.map(|_| Default::default())),
            #[cfg(feature = "cuda")]
            Kind::Cuda => task.run::<burn::backend::Cuda>(self.map(burn::backend::cuda::CudaDevice::new)),
            #[cfg(feature = "wgpu")]
            Kind::Wgpu => task.run::<burn::backend::Wgpu>(self.map(|index| match index {
                0 => Default::default(),
                index => burn::backend::wgpu::WgpuDevice::DiscreteGpu(index),
            })),
        }
    }

    /// These devices, or those that `auto` stands for.
    pub fn resolve(&self) -> Result<Self> {
        match self.kind {
            Kind::Auto => Self::best(),
            #[cfg(any(feature = "flex", feature = "ndarray", feature = "cuda", feature = "wgpu"))]
            _ => Ok(self.clone()),
        }
    }

    /// Whether they can compute, as far as that can be told at once.
    pub fn check(&self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if self.kind == Kind::Cuda {
            self.indices.iter().try_for_each(|index| leveret::check_cuda(*index))?;
        }
        Ok(())
    }

    /// One of any backend that is compiled in, for work that computes nothing on it.
    pub fn any() -> Result<Self> {
        NAMES.get(1).map_or("cpu", |name| name.trim_end_matches("[:N]")).parse()
    }

    #[cfg_attr(not(any(feature = "flex", feature = "ndarray", feature = "cuda", feature = "wgpu")), expect(unused))]
    fn map<D>(&self, device: impl Fn(usize) -> D) -> Vec<D> {
        self.indices.iter().map(|index| device(*index)).collect()
    }

    /// The first GPU if it can be used; else the CPU, with a warning where this build could have used a GPU.
    fn best() -> Result<Self> {
        #[cfg(feature = "cuda")]
        match leveret::check_cuda(0) {
            Ok(()) => return "cuda".parse(),
            Err(error) => {
                use std::io::Write;
                let _ = writeln!(std::io::stderr(), "warning: running on the CPU: {error}");
            }
        }
        Self::any()
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Devices {
    type Err = anyhow::Error;

    /// Reads a name, or several of one kind with commas between them.
    fn from_str(names: &str) -> Result<Self> {
        let mut devices = names.split(',').map(device);
        let first = devices.next().unwrap_or_else(|| device(names))?;
        let mut all = Self { name: names.to_owned(), kind: first.0, indices: vec![first.1] };
        for device in devices {
            let (kind, index) = device?;
            if kind != all.kind || kind == Kind::Auto {
                bail!("`{names}`: several devices have to be of one kind, such as cuda:0,cuda:1");
            }
            #[cfg(feature = "cuda")]
            if kind == Kind::Cuda && all.indices.contains(&index) {
                bail!("`{names}`: cuda:{index} is named twice");
            }
            all.indices.push(index);
        }
        Ok(all)
    }
}

fn device(name: &str) -> Result<(Kind, usize)> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let Ok(index) = index.parse() else {
        bail!("`{index}` is not a device number; expected {}", NAMES.join(", "));
    };
    let kind = match kind {
        "auto" | "cpu" | "flex" | "ndarray" if index > 0 => bail!("`{name}`: there is one of it; expected {kind}"),
        "auto" => Kind::Auto,
        #[cfg(feature = "flex")]
        "cpu" | "flex" => Kind::Flex,
        #[cfg(all(feature = "ndarray", not(feature = "flex")))]
        "cpu" => Kind::NdArray,
        #[cfg(feature = "ndarray")]
        "ndarray" => Kind::NdArray,
        #[cfg(feature = "cuda")]
        "cuda" => Kind::Cuda,
        #[cfg(feature = "wgpu")]
        "wgpu" => Kind::Wgpu,
        kind if KNOWN.contains(&kind) => {
            let feature = if kind == "cpu" { "flex" } else { kind };
            bail!("this build has no `{kind}`; expected {}, or build with --features {feature}", NAMES.join(", "))
        }
        _ => bail!("unknown device `{name}`; expected {}", NAMES.join(", ")),
    };
    Ok((kind, index))
}
