use super::*;

fn rms_norm<B: Backend>(dtype: DType, weight_dtype: DType) {
    for shape in [[1, 1, 4096], [2, 3, 128], [1, 5, 33], [3, 1, 2], [1, 2, 5000]] {
        let (x, weight) = (random(shape, dtype), random([shape[2]], weight_dtype));
        let want = portable::rms_norm(x.clone(), weight.clone(), 1e-5);
        let got = B::rms_norm(there::<B, 3>(x, dtype), there(weight, weight_dtype), 1e-5);
        same(got, want, dtype, &format!("rms_norm {shape:?} {weight_dtype:?}"));
    }
}

#[test]
#[ignore = "needs a GPU"]
fn rms_norm_equals_the_portable_body() {
    on_cuda(|x| DTYPES.into_iter().for_each(|weight| rms_norm::<Cuda>(x, weight)));
}
