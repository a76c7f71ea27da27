use super::*;
use crate::layers::recurrence::Recurrence;

/// As layers make it: heads and columns change places, in single columns and several, one sequence and more.
#[test]
#[ignore = "needs a GPU"]
fn recurrence_equals_that_of_a_cpu() {
    print_warnings();
    for (batch, seq, heads, [rows, columns]) in [
        (1, 12, 4, [8, 8]),
        (2, 1, 6, [10, 8]),
        (3, 1, 4, [8, 12]),
        (2, 7, 3, [12, 10]),
        (2, 64, 2, [16, 8]),
        (3, 70, 4, [8, 12]),
    ] {
        for delta in [false, true] {
            let [q, k] = [(); 2].map(|()| random([batch, seq, heads, rows], DType::F32) * 0.3);
            let v = random([batch, seq, heads, columns], DType::F32);
            let [decay, beta] = [(); 2].map(|()| random([batch, seq, heads], DType::F32).abs().clamp(0.0, 1.0));
            let state = random([batch, heads, rows, columns], DType::F32);
            let wide = [&q, &k, &v].map(|x| there::<Cuda, 4>(x.clone(), DType::F32));
            let narrow = [&decay, &beta].map(|x| there::<Cuda, 3>(x.clone(), DType::F32));
            let got = turned(wide, narrow, delta).apply(there(state.clone(), DType::F32));
            let want = turned([q, k, v], [decay, beta], delta).apply(state);
            let label = format!("{batch} {seq} {heads} {rows} {columns} {delta}");
            near(here(got.0, DType::F32), want.0, DType::F32, &format!("state {label}"));
            near(here(got.1, DType::F32), want.1, DType::F32, &format!("answers {label}"));
        }
    }
}

/// `[batch, seq, heads, width]` and `[batch, seq, heads]` as layers hand them over.
fn turned<B: Backend>(x: [Tensor<B, 4>; 3], [decay, beta]: [Tensor<B, 3>; 2], delta: bool) -> Recurrence<B> {
    let [q, k, v] = x.map(|x| x.swap_dims(1, 2));
    let column = |x: Tensor<B, 3>| {
        let [batch, seq, heads] = x.dims();
        portable::split(x.swap_dims(1, 2), [batch, heads, seq, 1])
    };
    Recurrence { q, k, v, decay: column(decay) * -0.1, beta: delta.then(|| column(beta)) }
}
