use super::find::Found;
use super::{Read, Unit, UnitKind, UnitTensor};
use crate::io::BLOCK;

/// Tensors whose gap in the file is at most this are read in one go.
const GAP: u64 = 64 * 1024;

/// Tensors in device memory begin at multiples of this: kernels load 16 bytes at once, and more would do no harm.
const DEVICE_ALIGN: usize = 256;

/// Places a unit's tensors in a slot: neighbours in a file stay neighbours, every read is of whole blocks.
pub(crate) fn lay_out(kind: UnitKind, mut found: Vec<(String, Found)>) -> Unit {
    found.sort_by_key(|(_, (entry, _))| (entry.shard, entry.offset));
    let block = BLOCK as u64;
    let (mut reads, mut tensors) = (Vec::<Read>::new(), Vec::new());
    let (mut host_len, mut device_len) = (0, 0usize);
    for (parameter, (entry, dtype)) in found {
        let start = entry.offset / block * block;
        let end = (entry.offset + entry.len).next_multiple_of(block);
        let near = |read: &&mut Read| {
            let read_end = read.offset + read.slot.len() as u64;
            read.shard == entry.shard && start <= read_end + GAP
        };
        let read = match reads.last_mut().filter(|read| near(read)) {
            Some(read) => {
                let len = (end - read.offset).max(read.slot.len() as u64) as usize;
                read.slot.end = read.slot.start + len;
                read
            }
            None => {
                let slot = host_len..host_len + (end - start) as usize;
                reads.push(Read { shard: entry.shard, offset: start, slot });
                reads.last_mut().expect("just pushed")
            }
        };
        host_len = read.slot.end;
        let offset = read.slot.start + (entry.offset - read.offset) as usize;
        let (len, device_offset) = (entry.len as usize, device_len);
        device_len = (device_offset + len).next_multiple_of(DEVICE_ALIGN);
        tensors.push(UnitTensor { parameter, dtype, shape: entry.shape, offset, device_offset, len, rewritten: false });
    }
    Unit { kind, tensors, reads, host_len, device_len }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use burn::tensor::DType;
    use safetensors::Dtype;

    use super::*;
    use crate::checkpoint::TensorEntry;
    use crate::unit::CHUNK;

    fn entry(shard: usize, offset: u64, len: u64) -> Found {
        let shape = vec![len as usize / 4];
        (TensorEntry { shard, offset, len, dtype: Dtype::F32, shape }, DType::F32)
    }

    #[test]
    fn neighbours_are_read_in_one_go_and_far_tensors_apart() {
        let unit = lay_out(
            UnitKind::Layer(0),
            vec![
                ("c".into(), entry(1, 0, 40)),
                ("b".into(), entry(0, 5000, 8000)),
                ("a".into(), entry(0, 4200, 800)),
                ("d".into(), entry(0, 1 << 20, 16)),
            ],
        );
        let at = |shard, offset, slot| Read { shard, offset, slot };
        let block = BLOCK as u64;
        assert_eq!(
            unit.reads,
            [at(0, block, 0..3 * BLOCK), at(0, 1 << 20, 3 * BLOCK..4 * BLOCK), at(1, 0, 4 * BLOCK..5 * BLOCK)]
        );
        assert_eq!(unit.host_len, 5 * BLOCK);
        let offsets: HashMap<_, _> = unit.tensors.iter().map(|t| (t.parameter.as_str(), t.offset)).collect();
        assert_eq!(offsets["a"], 104);
        assert_eq!(offsets["b"], 904);
        assert_eq!(offsets["d"], 3 * BLOCK);
    }

    /// Chunk by chunk, every byte of every tensor goes to its place on the device exactly once.
    #[test]
    fn chunks_cover_all_tensors() {
        let len = 2 * CHUNK as u64 + 5000;
        let unit = lay_out(
            UnitKind::Layer(0),
            vec![("a".into(), entry(0, 104, len)), ("b".into(), entry(0, 104 + len, 12)), ("c".into(), entry(1, 8, 4))],
        );
        assert_eq!(unit.chunks().map(|chunk| chunk.slot.len()).sum::<usize>(), unit.host_len);
        let mut places = vec![0u8; unit.device_len];
        for chunk in unit.chunks() {
            assert!(chunk.slot.len() <= CHUNK && chunk.offset.is_multiple_of(BLOCK as u64));
            for (from, to) in unit.segments(chunk.slot) {
                places[to..to + from.len()].iter_mut().for_each(|place| *place += 1);
            }
        }
        for tensor in &unit.tensors {
            let place = &mut places[tensor.device_offset..][..tensor.len];
            assert!(place.iter().all(|count| *count == 1), "{}", tensor.parameter);
            place.fill(0);
        }
        assert!(places.iter().all(|count| *count == 0));
    }
}
