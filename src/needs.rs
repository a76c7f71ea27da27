//! How much memory a generation takes, from the sizes of the model and of the request.

use burn::tensor::DType;
use leveret_models::Backend;
use leveret_models::layers::KvCache;

use crate::engine::{Parts, Rows};
use crate::plan::{Needs, UnitSize};
use crate::record::stored_dtype;
use crate::unit::{Unit, UnitTensor};

/// What kernels widen weights into, and what they widen inputs into.
const KERNEL_SCRATCH: u128 = 8 << 20;

impl<B: Backend> Parts<B> {
    /// What each unit takes.
    pub(crate) fn sizes(&self, units: &[Unit]) -> Vec<UnitSize> {
        let stored = |dtype: DType| stored_dtype::<B>(dtype, &self.device);
        let size = |unit: &Unit| {
            let in_place = B::USES_HOST_MEMORY || self.upload.has_own_memory();
            let copied = |tensor: &&UnitTensor| !in_place || stored(tensor.dtype) != tensor.dtype;
            let bytes = |tensor: &UnitTensor| tensor.len / tensor.dtype.size() * stored(tensor.dtype).size();
            let tensors: usize = unit.tensors.iter().filter(copied).map(bytes).sum();
            UnitSize { slot: unit.slot_len as u64, tensors: tensors as u64 }
        };
        units.iter().map(size).collect()
    }

    /// Memory beside weights for `batch` sequences of up to `columns` tokens, `seq` of them in the longest pass.
    pub(crate) fn needs(&self, batch: usize, seq: usize, columns: usize, rows: Rows) -> Needs {
        // In 128 bits and cut at the end: any config and any request can be asked about.
        let wide = |number: usize| number as u128;
        let dims = self.decoder.dims();
        let head = wide(batch) * wide(dims.num_kv_heads) * wide(dims.head_dim);
        let capacity = |layer| {
            let window = self.decoder.sliding_window(layer);
            wide(KvCache::<B>::capacity_for(columns, columns, window))
        };
        // While a layer appends more than its window, its old buffers and its new ones exist.
        let capacities = (0..dims.num_layers).map(capacity).sum::<u128>() + wide(columns.min(seq));
        let kv_cache = (2 * head).saturating_mul(wide(self.dtype.size())).saturating_mul(capacities);
        // The widest moments of a layer, in f32: the MLP's tensors with what kernels make of them, or queries, keys and
        // values; beside them hidden states, normed, widened and summed.
        let heads = (wide(dims.num_heads) + 2 * wide(dims.num_kv_heads)) * wide(dims.head_dim);
        let widest = (5 * wide(dims.intermediate_size)).max(4 * heads) + 6 * wide(dims.hidden_size);
        let scores = wide(self.attention.scratch_len(batch.saturating_mul(dims.num_heads), seq, columns));
        // Keys and values of one layer, where an implementation widens them.
        let widened = (2 * head).saturating_mul(wide(columns));
        let positions = wide(batch) * wide(seq);
        let logits = wide(dims.vocab_size).saturating_mul(match rows {
            Rows::Last => 2 * wide(batch),
            Rows::All => 4 * positions,
        });
        let numbers = positions.saturating_mul(widest).saturating_add(scores).saturating_add(widened);
        let activations = numbers.saturating_add(logits).saturating_mul(4).saturating_add(KERNEL_SCRATCH);
        let cut = |bytes: u128| u64::try_from(bytes).unwrap_or(u64::MAX).min(u64::MAX / 4);
        Needs { kv_cache: cut(kv_cache), activations: cut(activations) }
    }
}
