//! A device with memory of its own, made up for tests: it copies and computes later, after random delays.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::backend::Flex;
use burn::tensor::TensorData;
use burn::tensor::ops::{FloatTensor, FloatTensorOps, IntTensor, IntTensorOps};
use bytes::Bytes;
use rand::RngExt;

use super::host::Pages;
use super::{DeviceMemory, Event, HostMemory, InFlight, Upload};
use crate::error::{Error, Result};
use crate::stream::{Arrived, DeviceSlot};
use crate::unit::UnitTensor;

/// The way to the made-up device.
pub(crate) struct SimulatedUpload {
    copies: Mutex<Sender<Copy>>,
    counts: Arc<Counts>,
    delay: Duration,
    /// Copies so far.
    begun: AtomicUsize,
    /// What goes wrong with the copy of this number.
    fault: Option<(usize, Fault)>,
}

/// What may go wrong with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It cannot be begun.
    Begin,
    /// It is lost on its way.
    End,
}

/// Device memory, in bytes.
#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    peak: AtomicU64,
}

/// Memory that counts how often it was written.
#[derive(Debug)]
pub(crate) struct SimulatedMemory {
    content: Arc<Content>,
    counts: Arc<Counts>,
    delay: Duration,
}

#[derive(Debug)]
struct Content {
    bytes: Mutex<Vec<u8>>,
    writes: AtomicU64,
}

struct Copy {
    from: Bytes,
    to: Arc<Content>,
    segments: Vec<(Range<usize>, usize)>,
    done: Sender<()>,
}

fn sleep(longest: Duration) {
    std::thread::sleep(longest.mul_f64(rand::rng().random::<f64>()));
}

impl SimulatedUpload {
    /// A device whose copies and computations take up to `delay`.
    pub(crate) fn new(delay: Duration) -> Self {
        let (copies, queue) = channel::<Copy>();
        std::thread::spawn(move || {
            for Copy { from, to, segments, done } in queue {
                sleep(delay);
                to.writes.fetch_add(1, Ordering::SeqCst);
                let mut bytes = to.bytes.lock().unwrap();
                for (range, place) in segments {
                    bytes[place..place + range.len()].copy_from_slice(&from[range]);
                }
                let _ = done.send(());
            }
        });
        Self { copies: Mutex::new(copies), counts: Arc::default(), delay, begun: AtomicUsize::new(0), fault: None }
    }

    /// The same with a copy that goes wrong.
    pub(crate) fn with_fault(self, copy: usize, fault: Fault) -> Self {
        Self { fault: Some((copy, fault)), ..self }
    }
}

impl Upload<Flex> for SimulatedUpload {
    fn has_own_memory(&self) -> bool {
        true
    }

    fn available_memory(&self) -> Result<u64> {
        Ok(1 << 30)
    }

    fn peak_memory(&self) -> Option<u64> {
        Some(self.counts.peak.load(Ordering::SeqCst))
    }

    fn taken_memory(&self) -> Option<u64> {
        Some(self.counts.taken.load(Ordering::SeqCst))
    }

    fn host_memory(&self, len: usize) -> io::Result<Box<dyn HostMemory>> {
        Ok(Box::new(Pages::new(len)?))
    }

    fn device_memory(&self, len: usize) -> Result<DeviceMemory> {
        let taken = self.counts.taken.fetch_add(len as u64, Ordering::SeqCst) + len as u64;
        self.counts.peak.fetch_max(taken, Ordering::SeqCst);
        let content = Content { bytes: Mutex::new(vec![0xff; len]), writes: AtomicU64::new(0) };
        let (content, counts) = (Arc::new(content), self.counts.clone());
        Ok(DeviceMemory::Simulated(SimulatedMemory { content, counts, delay: self.delay }))
    }

    fn copy(&self, from: Bytes, to: &Arc<DeviceSlot>, segments: &[(Range<usize>, usize)]) -> Result<InFlight> {
        let (done, copied) = channel();
        let content = to.memory().simulated().content.clone();
        let copy = Copy { from: from.clone(), to: content, segments: segments.to_vec(), done };
        let count = self.begun.fetch_add(1, Ordering::SeqCst);
        if self.fault == Some((count, Fault::Begin)) {
            return Err(Error::Device { reason: "a copy does not begin".to_owned() });
        }
        let started = Instant::now();
        if self.fault != Some((count, Fault::End)) {
            self.copies.lock().unwrap().send(copy).unwrap();
        }
        Ok(InFlight::new(Box::new(Copied(copied)), started, from, to.clone()))
    }

    fn floats(&self, tensor: &UnitTensor, unit: &Arrived) -> FloatTensor<Flex> {
        Flex::float_from_data(data(tensor, unit), &Default::default())
    }

    fn ints(&self, tensor: &UnitTensor, unit: &Arrived) -> IntTensor<Flex> {
        Flex::int_from_data(data(tensor, unit), &Default::default())
    }
}

/// What lies at a tensor's place in device memory.
fn data(tensor: &UnitTensor, unit: &Arrived) -> TensorData {
    let bytes = unit.device.as_ref().unwrap().memory().simulated().content.bytes.lock().unwrap();
    let bytes = bytes[tensor.device_offset..][..tensor.len].to_vec();
    TensorData::from_bytes_vec(bytes, tensor.shape.clone(), tensor.dtype)
}

impl SimulatedMemory {
    /// The bytes as they are.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.content.bytes.lock().unwrap().clone()
    }

    /// The end of a computation that reads this memory until then.
    pub(super) fn computed(&self) -> Box<dyn Event> {
        let writes = self.content.writes.load(Ordering::SeqCst);
        Box::new(Computed { content: self.content.clone(), writes, delay: self.delay })
    }
}

impl Drop for SimulatedMemory {
    fn drop(&mut self) {
        self.counts.taken.fetch_sub(self.content.bytes.lock().unwrap().len() as u64, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Copied(Receiver<()>);

impl Event for Copied {
    fn wait(self: Box<Self>) -> Result<()> {
        self.0.recv().map_err(|_| Error::Device { reason: "the copying thread died".to_owned() })
    }
}

#[derive(Debug)]
struct Computed {
    content: Arc<Content>,
    writes: u64,
    delay: Duration,
}

impl Event for Computed {
    fn wait(self: Box<Self>) -> Result<()> {
        sleep(self.delay);
        match self.content.writes.load(Ordering::SeqCst) == self.writes {
            true => Ok(()),
            false => Err(Error::Device { reason: "memory was overwritten while it was read".to_owned() }),
        }
    }
}
