//! How much memory a generation takes, from the sizes of the model and of the request.

use burn::tensor::DType;
use leveret_models::Backend;
use leveret_models::layers::{AttentionShape, KvCache, StateShape};

use super::embedding::Embedding;
use super::marks::FEW;
use super::pass::ropes;
use super::{Engine, Request, Rows};
use crate::cache::kept_window;
use crate::plan::{ExpertSizes, UnitSize};
use crate::record::stored_dtype;
use crate::unit::{Unit, UnitKind, UnitTensor};

impl<B: Backend> Engine<B> {
    /// What each unit takes, KV cache included.
    pub(crate) fn sizes(&self, request: Request) -> Vec<UnitSize> {
        let own_memory = self.has_own_memory();
        let stored = |dtype: DType| stored_dtype::<B>(dtype, self.device());
        let size = |unit: &Unit| {
            let in_place = B::USES_HOST_MEMORY || own_memory;
            let copied = |tensor: &&UnitTensor| !in_place || tensor.rewritten || stored(tensor.dtype) != tensor.dtype;
            let bytes = |tensor: &UnitTensor| tensor.len / tensor.dtype.size() * stored(tensor.dtype).size();
            let tensors: usize = unit.tensors.iter().filter(copied).map(bytes).sum();
            UnitSize {
                slot: if own_memory { unit.device_len } else { unit.host_len } as u64,
                tensors: tensors as u64,
                host: unit.host_len as u64,
                kv_cache: match unit.kind {
                    UnitKind::Layer(layer) => self.kv_cache(layer, request),
                    UnitKind::Expert { .. } | UnitKind::Head(_) => 0,
                },
                experts: ExpertSizes::default(),
            }
        };
        let experts = |unit: &Unit| match unit.kind {
            UnitKind::Layer(layer) => {
                let chosen = self.decoder().experts(layer).map_or(0, |experts| experts.chosen);
                let sizes: Vec<_> = self.experts()[layer].iter().map(size).collect();
                let largest = |of: fn(&UnitSize) -> u64| sizes.iter().map(of).max().unwrap_or(0);
                let (slot, tensors) = (largest(|size| size.slot), largest(|size| size.tensors));
                let host = largest(|size| size.host);
                ExpertSizes { count: sizes.len(), chosen, slot, tensors, host }
            }
            UnitKind::Expert { .. } | UnitKind::Head(_) => ExpertSizes::default(),
        };
        self.units().iter().map(|unit| UnitSize { experts: experts(unit), ..size(unit) }).collect()
    }

    /// Keys and values of one layer, or its state.
    fn kv_cache(&self, layer: usize, Request { batch, columns, .. }: Request) -> u64 {
        if self.decoder().kv_layer(layer) != layer {
            return 0;
        }
        if let Some(state) = self.decoder().state(layer) {
            return cut(self.state(&state, batch));
        }
        let capacity = KvCache::<B>::capacity_for(columns, columns, kept_window(self.decoder(), layer));
        cut(self.kv_column(batch).saturating_mul(wide(capacity)))
    }

    /// Keys and values of one column in one layer.
    fn kv_column(&self, batch: usize) -> u128 {
        let dims = self.dims();
        (wide(dims.kv_len) * wide(self.dtype().size())).saturating_mul(wide(batch))
    }

    /// What a layer of this state keeps.
    fn state(&self, state: &StateShape, batch: usize) -> u128 {
        let product = |sizes: &[usize]| sizes.iter().map(|size| wide(*size)).fold(1, u128::saturating_mul);
        let conv = product(&state.conv).saturating_mul(wide(self.dtype().size()));
        let recurrent = product(&state.recurrent).saturating_mul(wide(size_of::<f32>()));
        conv.saturating_add(recurrent).saturating_mul(wide(batch))
    }

    /// The largest state of a layer with what it is made in, and the numbers of each column that it is computed with.
    fn largest_state(&self, batch: usize) -> (u128, u128) {
        let states: Vec<_> = (0..self.dims().num_layers).filter_map(|layer| self.decoder().state(layer)).collect();
        let largest = states.iter().map(|state| self.state(state, batch)).max().unwrap_or(0);
        let once = states.iter().map(|state| wide(state.once)).max().unwrap_or(0);
        let once = once.saturating_mul(4 * wide(batch));
        (largest.saturating_add(once), states.iter().map(|state| wide(state.scratch)).max().unwrap_or(0))
    }

    /// The buffers of a layer with a window while it appends `chunk` columns beside those that it has.
    fn appending(&self, Request { batch, columns, .. }: Request, chunk: usize) -> u128 {
        let windows = (0..self.dims().num_layers).filter_map(|layer| kept_window(self.decoder(), layer));
        let longest = windows.map(|window| columns.min(window.saturating_add(chunk))).max().unwrap_or(0);
        self.kv_column(batch).saturating_mul(wide(longest))
    }

    /// What the largest packed matrix takes in f32, twice, on backends that multiply it as such: those without kernels of
    /// their own.
    fn unpacking(&self) -> u128 {
        if self.has_own_memory() || B::USES_HOST_MEMORY {
            return 0;
        }
        let tensors = self.all_units().flat_map(|unit| &unit.tensors);
        2 * wide(tensors.filter_map(UnitTensor::unpacked_len).max().unwrap_or(0))
    }

    /// What experts are given of all positions of a layer, and in f32 what they make of it.
    fn routed(&self, positions: u128) -> u128 {
        let width = wide(self.dims().hidden_size) * wide(self.dtype().size() + size_of::<f32>());
        match self.experts().iter().all(Vec::is_empty) {
            true => 0,
            false => positions.saturating_mul(width),
        }
    }

    /// Memory beside weights and KV cache while a layer computes `chunk` columns at a time.
    pub(super) fn activations(&self, request: Request, chunk: usize) -> u64 {
        let Request { batch, seq, columns, rows, .. } = request;
        let dims = self.dims();
        // The widest moments of a layer, in f32: the MLP's tensors with what kernels make of them, or queries, keys and
        // values; beside them hidden states, normed, widened and summed.
        let heads = (wide(dims.num_heads) + 2 * wide(dims.num_kv_heads)) * wide(dims.head_dim);
        let of_experts = (0..dims.num_layers).filter_map(|layer| self.decoder().experts(layer));
        let inner = of_experts.map(|experts| experts.intermediate_size).max().unwrap_or(0).max(dims.intermediate_size);
        let inputs = wide(self.decoder().layer_embedding().map_or(0, |it| it.width));
        let (state, of_state) = self.largest_state(batch);
        let widest = (5 * wide(inner)).max(4 * heads).max(4 * inputs).max(of_state) + 6 * wide(dims.hidden_size);
        let scratch = wide(self.attention().scratch_len(&AttentionShape::new(&dims, batch, chunk, columns)));
        let logits = wide(dims.vocab_size).saturating_mul(match rows {
            Rows::Last => 2 * wide(batch),
            Rows::All => 3 * wide(batch) * wide(chunk),
        });
        let numbers = (wide(batch) * wide(chunk)).saturating_mul(widest).saturating_add(scratch).saturating_add(logits);
        // The hidden states of all columns go through a layer, chunk by chunk; few of them are kept after each layer.
        let positions = wide(batch) * wide(seq);
        let kept = positions.min(wide(FEW)) * wide(dims.num_layers + 1);
        let hidden = positions.saturating_add(kept).saturating_mul(wide(dims.hidden_size) * wide(self.dtype().size()));
        let inputs = positions.saturating_mul(inputs * wide(self.dtype().size()));
        // Every chunk has the rotations of its positions, and the positions of all columns up to its own.
        let kinds = wide(ropes(self.decoder(), dims.num_layers).0.len());
        let rotations = positions.saturating_mul(4 * wide(dims.head_dim)).saturating_mul(kinds);
        let chunks = wide(seq.div_ceil(chunk.max(1)));
        let places = (4 * wide(batch)).saturating_mul(wide(columns)).saturating_mul(chunks);
        let (appending, embedding) =
            (self.appending(request, chunk), wide(self.embeddings().map(Embedding::kept_len).sum()));
        let (routed, unpacking) = (self.routed(positions), self.unpacking());
        // The state that a layer makes stands beside the one that it had.
        let states = state.saturating_mul(2);
        // A layer's columns, padded and put together, and the buffers that they go to.
        let joining = match request.joins {
            true => self.kv_column(batch).saturating_mul(3 * wide(columns)),
            false => 0,
        };
        let beside = [hidden, inputs, rotations, places, appending, embedding, routed, unpacking, states, joining];
        cut(beside
            .into_iter()
            .fold(numbers.saturating_mul(4), u128::saturating_add)
            .saturating_add(wide(B::KERNEL_SCRATCH)))
    }
}

/// In 128 bits and cut at the end: any config and any request can be asked about.
fn wide(number: usize) -> u128 {
    number as u128
}

fn cut(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).min(u64::MAX / 4)
}
