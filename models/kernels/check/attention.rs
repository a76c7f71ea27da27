use super::*;
use crate::layers::{Attention, AttentionInput, Eager, Mask, PAD, Positions};

fn attention<B: Backend>(dtype: DType) {
    let plain = Case::default();
    for (head_dim, heads, kv_heads) in [(128, 8, 2), (64, 4, 4), (80, 3, 1), (256, 2, 1), (96, 6, 1), (6, 4, 2)] {
        for (queries, past) in [(1, 0), (1, 700), (2, 3), (7, 0), (9, 40), (70, 150)] {
            let plain = Case { heads, kv_heads, head_dim, queries, past, ..plain };
            for case in [
                plain,
                Case { left: 2, ..plain },
                Case { window: Some(5), ..plain },
                Case { dropped: 3, window: Some(40), past: past.max(3), ..plain },
                Case { softcap: Some(1.5), has_sinks: true, left: 2, ..plain },
            ] {
                case.check::<B>(dtype);
            }
        }
        // Each alone: kernels are compiled for what they are asked for.
        let few = Case { heads, kv_heads, head_dim, queries: 3, past: 300, ..plain };
        Case { softcap: Some(0.8), ..few }.check::<B>(dtype);
        Case { has_sinks: true, ..few }.check::<B>(dtype);
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    queries: usize,
    past: usize,
    /// Padding at the left of the first sequence.
    left: usize,
    dropped: usize,
    window: Option<usize>,
    softcap: Option<f64>,
    has_sinks: bool,
}

impl Case {
    /// Two sequences, over buffers whose columns begin and end with something else.
    fn check<B: Backend>(self, dtype: DType) {
        let Self { heads, kv_heads, head_dim, queries, past, left, dropped, window, softcap, has_sinks } = self;
        let batch = 2;
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
        let label = format!("attention {self:?}");
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
}

#[test]
#[ignore = "needs a GPU"]
fn attention_equals_the_definition() {
    on_cuda(attention::<Cuda>);
}
