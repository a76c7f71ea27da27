use super::*;
use crate::layers::{Heads, Positions, Rope, RopeParameters};

fn heads<B: Backend>(dtype: DType) {
    for [batch, num_heads, kv_heads, seq, head_dim] in
        [[1, 32, 8, 1, 128], [2, 3, 1, 5, 80], [1, 2, 2, 33, 6], [3, 2, 1, 1, 2], [16, 8, 2, 1, 64]]
    {
        let ([q_norm, k_norm], at) = ([(); 2].map(|()| norms::<B>(head_dim, dtype)), 3);
        let positions = Positions::new(batch, (0..batch * seq).map(|i| i as i32 % 50).collect());
        let rope = Rope::new(&RopeParameters::default(), head_dim, &positions, 50, &Default::default());
        let there_rope = Rope::new(&RopeParameters::default(), head_dim, &positions, 50, &Default::default());
        let [q, k, v] = [num_heads, kv_heads, kv_heads].map(|n| random([batch, seq, n, head_dim], dtype));
        let buffers = [(); 2].map(|()| random([batch, kv_heads, at + seq + 2, head_dim], dtype));
        for normed in [false, true] {
            let view = |x: &Tensor<Flex, 4>| x.clone().swap_dims(1, 2);
            let want = Flex::append_heads(
                Heads {
                    q: view(&q),
                    k: view(&k),
                    v: view(&v),
                    q_norm: normed.then_some(&q_norm.0),
                    k_norm: normed.then_some(&k_norm.0),
                    rope: &rope,
                },
                buffers[0].clone(),
                buffers[1].clone(),
                at,
            );
            let view = |x: &Tensor<Flex, 4>| there::<B, 4>(x.clone(), dtype).swap_dims(1, 2);
            let got = B::append_heads(
                Heads {
                    q: view(&q),
                    k: view(&k),
                    v: view(&v),
                    q_norm: normed.then_some(&q_norm.1),
                    k_norm: normed.then_some(&k_norm.1),
                    rope: &there_rope,
                },
                there(buffers[0].clone(), dtype),
                there(buffers[1].clone(), dtype),
                at,
            );
            for (got, want) in got.into_iter().zip(want) {
                same(got, want, dtype, &format!("heads {batch} {num_heads} {seq} {head_dim} normed {normed}"));
            }
        }
    }
}

fn append<B: Backend>(dtype: DType) {
    for ([batch, heads, capacity, head_dim], seq, at) in
        [([1, 8, 64, 128], 1, 63), ([2, 3, 9, 5], 4, 2), ([1, 2, 300, 6], 255, 1)]
    {
        let buffer = random([batch, heads, capacity, head_dim], dtype);
        let columns = random([batch, seq, heads, head_dim], dtype);
        let want = portable::append(buffer.clone(), columns.clone().swap_dims(1, 2), at);
        let columns = there::<B, 4>(columns, dtype).swap_dims(1, 2);
        let (mine, shared) = (there::<B, 4>(buffer.clone(), dtype), there::<B, 4>(buffer.clone(), dtype));
        let label = format!("append {batch} {heads} {capacity} {head_dim} {seq} {at}");
        equal(B::append(mine, columns.clone(), at), want.clone(), dtype, &label);
        // Somebody else's view of the buffer keeps its numbers.
        let kept = shared.clone();
        equal(B::append(shared, columns, at), want, dtype, &label);
        equal(kept, buffer, dtype, &label);
    }
}

fn equal<B: Backend, const D: usize>(got: Tensor<B, D>, want: Tensor<Flex, D>, dtype: DType, label: &str) {
    let size = want.zeros_like();
    within(here(got, dtype), want, size, dtype, label);
}

#[test]
#[ignore = "needs a GPU"]
fn heads_equal_the_portable_body() {
    on_cuda(heads::<Cuda>);
}

#[test]
#[ignore = "needs a GPU"]
fn append_equals_the_portable_body() {
    on_cuda(append::<Cuda>);
}
