use std::sync::{Mutex, PoisonError};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::unit::Unit;

/// Bytes of one read: large enough for any disk's rate, small enough that readers end together.
const CHUNK: usize = 4 << 20;

/// Readers at a time: at least what keeps an NVMe queue busy, at most what a memory file system still gains from.
fn readers() -> usize {
    std::thread::available_parallelism().map_or(4, |cores| cores.get().clamp(4, 16))
}

/// One piece of work: shard, offset in it, and where the bytes go.
type Chunk<'a> = (usize, u64, &'a mut [u8]);

/// Fills `slot` with a unit's bytes, several readers at a time, and makes sure that its files have not changed.
pub(super) fn read_unit(checkpoint: &Checkpoint, unit: &Unit, slot: &mut [u8]) -> Result<()> {
    let mut chunks = chunks(unit, slot);
    let readers = readers().min(chunks.len());
    let read = |(shard, offset, buffer): Chunk<'_>| checkpoint.shards()[shard].read_blocks(offset, buffer);
    if readers == 1 {
        chunks.pop().map_or(Ok(()), read)?;
    } else {
        let queue = Mutex::new(chunks.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some(chunk) = next() {
                read(chunk)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..readers).map(|_| scope.spawn(work)).collect();
            let own = work();
            let panicked = |_| Err(crate::error::Error::ReaderStopped);
            others.into_iter().map(|other| other.join().unwrap_or_else(panicked)).fold(own, Result::and)
        })?;
    }
    let mut shards: Vec<_> = unit.reads.iter().map(|read| read.shard).collect();
    shards.dedup();
    shards.into_iter().try_for_each(|shard| checkpoint.shards()[shard].check_unchanged())
}

fn chunks<'a>(unit: &Unit, mut slot: &'a mut [u8]) -> Vec<Chunk<'a>> {
    let mut chunks = Vec::new();
    for read in &unit.reads {
        let (mut run, rest) = slot.split_at_mut(read.slot.len());
        slot = rest;
        let mut offset = read.offset;
        while !run.is_empty() {
            let (chunk, rest) = run.split_at_mut(CHUNK.min(run.len()));
            run = rest;
            let len = chunk.len() as u64;
            chunks.push((read.shard, offset, chunk));
            offset += len;
        }
    }
    chunks
}
