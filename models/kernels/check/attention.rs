use super::*;
use crate::layers::{Attention, AttentionInput, Eager, Mask, PAD, Positions};

fn attention<B: Backend>(dtype: DType) {
    for (head_dim, heads, kv_heads) in [(128, 8, 2), (64, 4, 4), (80, 3, 1), (256, 2, 1), (96, 6, 1), (6, 4, 2)] {
        for (queries, past) in [(1, 0), (1, 700), (2, 3), (7, 0), (9, 40), (70, 150)] {
            for (left, dropped, window) in [(0, 0, None), (2, 0, None), (0, 0, Some(5)), (0, 3, Some(40))] {
                let shape = [2, heads, kv_heads, head_dim];
                for (softcap, has_sinks) in [(None, false), (Some(1.5), false), (None, true), (Some(0.8), true)] {
                    attention_of::<B>(
                        dtype,
                        shape,
                        queries,
                        past.max(dropped),
                        left,
                        dropped,
                        window,
                        softcap,
                        has_sinks,
                    );
                }
            }
        }
    }
}

/// Two sequences, the first padded at the left, over buffers whose columns begin and end with something else.
#[allow(clippy::too_many_arguments, reason = "a case")]
fn attention_of<B: Backend>(
    dtype: DType,
    [batch, heads, kv_heads, head_dim]: [usize; 4],
    queries: usize,
    past: usize,
    left: usize,
    dropped: usize,
    window: Option<usize>,
    softcap: Option<f64>,
    has_sinks: bool,
) {
    let (start, total) = (2, past + queries);
    let keys = total - dropped;
    let left = left.min(total - 1);
    let row = |pad: usize| (0..total).map(move |i| if i < pad { PAD } else { (i - pad) as i32 });
    let positions = Positions::new(batch, row(left).chain(row(0)).collect());
    let last = positions.narrow(past..total);
    let mask = Mask::new(&last, &positions, dropped, window);

    let q = random([batch, queries, heads, head_dim], dtype);
    let [k, v] = [(); 2].map(|()| random([batch, kv_heads, start + keys + 3, head_dim], dtype));
    let (columns, scale) = (start..start + keys, (head_dim as f64).powf(-0.5));
    let sinks = has_sinks.then(|| random([heads], dtype));
    let want = {
        let sinks = sinks.clone();
        let (q, k, v, columns) = (q.clone().swap_dims(1, 2), k.clone(), v.clone(), columns.clone());
        Eager.forward(AttentionInput { q, k, v, columns, mask: &mask, scale, sinks, softcap, alibi: None })
    };
    let sinks = sinks.map(|sinks| there::<B, 1>(sinks, dtype));
    let there = |x| there::<B, 4>(x, dtype);
    let input = AttentionInput {
        q: there(q).swap_dims(1, 2),
        k: there(k),
        v: there(v),
        columns,
        mask: &mask,
        scale,
        sinks,
        softcap,
        alibi: None,
    };
    let got = here(B::attend(input), dtype);
    let label = format!(
        "attention {head_dim} {heads}/{kv_heads} {queries}+{past} {left} {dropped} {window:?} {softcap:?} {has_sinks}"
    );
    assert!(got.clone().into_data().iter::<f32>().all(f32::is_finite), "{label}");
    // What padding attends to is nobody's business, as long as it is a number.
    for row in 0..batch {
        let pads = last.row(row).iter().take_while(|position| **position == PAD).count();
        if pads < queries {
            let seen = |x: &Tensor<Flex, 4>| x.clone().narrow(0, row, 1).narrow(2, pads, queries - pads);
            near(seen(&got), seen(&want), dtype, &label);
        }
    }
}

#[test]
#[ignore = "needs a GPU"]
fn attention_equals_the_definition() {
    on_cuda(attention::<Cuda>);
}
