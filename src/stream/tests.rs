//! A stream under adversity: bytes never differ, and every wait has an end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use burn::backend::Flex;
use burn::tensor::DType;
use rand::RngExt;
use rstest::rstest;
use safetensors::Dtype;

use super::readers::Shards;
use super::{Arrived, Kept, Memory, Order, Readers, Source, Stream, Transfer};
use crate::checkpoint::TensorEntry;
use crate::error::{Error, Result};
use crate::plan::Tier;
use crate::unit::{CHUNK, Unit, UnitKind, lay_out};
use crate::upload::Upload;
use crate::upload::simulated::{Fault, SimulatedUpload};

/// Files whose bytes follow from their place, read after random delays.
struct Fake {
    delay: Duration,
    reads: AtomicUsize,
    /// What happens at the read of this number.
    at: usize,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Nothing,
    Fails,
    Panics,
}

fn byte(shard: usize, offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ shard as u8
}

impl Shards for Fake {
    fn read(&self, shard: usize, offset: u64, buffer: &mut [u8], _: &AtomicBool) -> Result<()> {
        std::thread::sleep(self.delay.mul_f64(rand::rng().random::<f64>()));
        if self.reads.fetch_add(1, Ordering::SeqCst) == self.at {
            match self.then {
                Then::Nothing => {}
                Then::Fails => return Err(Error::Changed { path: "weights".into() }),
                Then::Panics => panic!("a reader dies"),
            }
        }
        buffer.iter_mut().zip(offset..).for_each(|(place, offset)| *place = byte(shard, offset));
        Ok(())
    }
}

/// Units of several reads each, of different lengths.
fn units() -> Vec<Unit> {
    let tensor = |unit: usize, i: usize| {
        let (shard, offset, len) = (i, (unit * 999_000 + i * 200_000 + 100) as u64, (3000 + 1000 * unit) as u64);
        let entry = TensorEntry { shard, offset, len, dtype: Dtype::F32, shape: vec![len as usize / 4] };
        (format!("{i}"), (entry, DType::F32))
    };
    (0..5).map(|unit| lay_out(UnitKind::Layer(unit), (0..3).map(|i| tensor(unit, i)).collect())).collect()
}

fn start(fake: Fake, transfer: Transfer, delay: Duration) -> (Arc<Vec<Unit>>, Readers, Stream) {
    start_on(SimulatedUpload::new(delay), 2, fake, transfer)
}

fn start_on(
    upload: SimulatedUpload,
    slots: usize,
    fake: Fake,
    transfer: Transfer,
) -> (Arc<Vec<Unit>>, Readers, Stream) {
    let units = Arc::new(units());
    let upload: Arc<dyn Upload<Flex>> = Arc::new(upload);
    let readers = Readers::start(Arc::new(fake), 3).unwrap();
    let longest = units.iter().map(|unit| unit.device_len).max().unwrap();
    let memory = Memory {
        host_ring: (0..2).map(|_| upload.host_memory(CHUNK).unwrap()).collect(),
        device_ring: (0..slots).map(|_| upload.device_memory(longest).unwrap()).collect(),
        resident: HashMap::from([(0, upload.device_memory(units[0].device_len).unwrap())]),
        kept: Kept::default(),
    };
    let tier = |unit| [Tier::Device, Tier::Host, Tier::Disk, Tier::Disk, Tier::Host][unit];
    let orders: Vec<_> = (0..units.len()).map(|unit| Order { unit, tier: tier(unit) }).collect();
    let rest = orders[1..].to_vec();
    let source = Source { units: units.clone(), upload, keeps_host_memory: false };
    let stream = Stream::start(source, memory, &readers, transfer, orders, rest).unwrap();
    (units, readers, stream)
}

fn assert_bytes(unit: &Unit, arrived: &Arrived) {
    let bytes = arrived.device.as_ref().unwrap().memory().simulated().bytes();
    for read in &unit.reads {
        for (from, to) in unit.segments(read.slot.clone()) {
            let offset = read.offset + (from.start - read.slot.start) as u64;
            let want: Vec<_> = (offset..).take(from.len()).map(|offset| byte(read.shard, offset)).collect();
            assert!(bytes[to..to + from.len()] == want, "{:?}", arrived.order);
        }
    }
}

/// Runs what must end; a hang is a failure.
fn within_a_minute<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = channel();
    let thread = std::thread::spawn(move || done.send(run()));
    match result.recv_timeout(Duration::from_secs(60)) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// Files that are read at once and without fault.
fn no_fault() -> Fake {
    Fake { delay: Duration::ZERO, reads: AtomicUsize::new(0), at: 0, then: Then::Nothing }
}

/// A thousand passes with random delays in readers, uploads and computation.
#[rstest]
fn a_thousand_passes_bring_the_same_bytes(#[values("sync", "prefetch", "async")] transfer: Transfer) {
    within_a_minute(move || {
        let delay = Duration::from_micros(if transfer == Transfer::Async { 600 } else { 200 });
        let (units, _readers, mut stream) = start(Fake { delay, ..no_fault() }, transfer, delay);
        for pass in 0..1000 {
            for unit in usize::from(pass > 0)..units.len() {
                let arrived = stream.next(&|| false).unwrap();
                assert_eq!(arrived.order.unit, unit);
                assert_bytes(&units[unit], &arrived);
                if pass % 4 == unit % 4 {
                    std::thread::sleep(delay.mul_f64(rand::rng().random::<f64>()));
                }
            }
        }
    });
}

/// A read that fails, and a reader that dies, at any moment: an error, and an end.
#[rstest]
fn a_fault_is_an_error_and_no_hang(
    #[values(Then::Fails, Then::Panics)] then: Then,
    #[values(0, 4, 20, 101)] at: usize,
    #[values("sync", "prefetch", "async")] transfer: Transfer,
) {
    within_a_minute(move || {
        let fake = Fake { at, then, delay: Duration::from_micros(100), ..no_fault() };
        let (_, _readers, mut stream) = start(fake, transfer, Duration::from_micros(100));
        let error = (0..1000).find_map(|_| stream.next(&|| false).err()).expect("the fault is reached");
        match then {
            Then::Panics => assert!(matches!(error, Error::ReaderStopped), "{error}"),
            _ => assert!(matches!(error, Error::Changed { .. }), "{error}"),
        }
        assert!(stream.next(&|| false).is_err(), "the stream is over");
    });
}

/// A copy that does not begin, and one that is lost, at any moment: an error, and an end.
#[rstest]
fn a_copy_that_fails_is_an_error_and_no_hang(
    #[values(Fault::Begin, Fault::End)] fault: Fault,
    #[values(0, 5, 60)] copy: usize,
    #[values("sync", "prefetch", "async")] transfer: Transfer,
) {
    within_a_minute(move || {
        let upload = SimulatedUpload::new(Duration::from_micros(100)).with_fault(copy, fault);
        let (_, _readers, mut stream) = start_on(upload, 1, no_fault(), transfer);
        let error = (0..1000).find_map(|_| stream.next(&|| false).err()).expect("the fault is reached");
        assert!(matches!(error, Error::Device { .. }), "{error}");
        assert!(stream.next(&|| false).is_err(), "the stream is over");
    });
}

/// A stream that nobody wants any more ends at once, wherever it is.
#[rstest]
fn a_dropped_stream_ends(
    #[values(0, 1, 7)] taken: usize,
    #[values(1, 2)] slots: usize,
    #[values("sync", "async")] transfer: Transfer,
) {
    within_a_minute(move || {
        let upload = SimulatedUpload::new(Duration::from_micros(300));
        let (_, _readers, mut stream) = start_on(upload, slots, no_fault(), transfer);
        let mut last = None;
        for _ in 0..taken {
            drop(last.take());
            last = Some(stream.next(&|| false).unwrap());
        }
        drop(last);
        drop(stream);
    });
}
