// cargo run --release --example custom_architecture -- models/demo
//! A model family of one's own: its config, its layer and a `model_type`. The engine streams it like any other.
//!
//! This one is Llama once more, made of shared parts, so that it can be held against the built-in one.

use burn::backend::Flex;
use burn::module::Module;
use burn::prelude::Tensor;
use leveret::models::layers::{GatedMlp, RmsNorm, SelfAttention, SelfAttentionConfig, Step};
use leveret::models::{Architecture, DecoderConfig, DecoderLayer};
use leveret::{Backend, Model, RunDtype};
use serde::Deserialize;

/// What `config.json` says; the fields that most families share are read already.
#[derive(Debug, Deserialize)]
#[serde(from = "DecoderConfig")]
struct Mine(DecoderConfig);

impl From<DecoderConfig> for Mine {
    fn from(config: DecoderConfig) -> Self {
        Self(config)
    }
}

/// One layer; its fields have the names that the checkpoint gives its tensors.
#[derive(Module, Debug)]
struct MyLayer<B: Backend> {
    input_layernorm: RmsNorm<B>,
    self_attn: SelfAttention<B>,
    post_attention_layernorm: RmsNorm<B>,
    mlp: GatedMlp<B>,
}

impl<B: Backend> DecoderLayer<B> for MyLayer<B> {
    fn forward(&self, x: Tensor<B, 3>, step: &mut Step<'_, B>) -> Tensor<B, 3> {
        let y = self.self_attn.forward(self.input_layernorm.before(x.clone()), Some(x), step);
        self.mlp.forward(self.post_attention_layernorm.before(y.clone()), Some(y)) // [batch, seq, hidden_size]
    }
}

impl Architecture for Mine {
    const FAMILY: &'static str = "Mine";
    const MODEL_TYPES: &'static [&'static str] = &["llama"];
    type Layer<B: Backend> = MyLayer<B>;

    fn config(&self) -> &DecoderConfig {
        &self.0
    }

    fn layer<B: Backend>(&self, _index: usize, device: &B::Device) -> MyLayer<B> {
        let norm = || RmsNorm::new(self.0.hidden_size, self.0.rms_norm_eps.unwrap_or(1e-6), device);
        MyLayer {
            input_layernorm: norm(),
            self_attn: SelfAttention::new(&SelfAttentionConfig::new(&self.0), device),
            post_attention_layernorm: norm(),
            mlp: GatedMlp::new(&self.0, device),
        }
    }
}

fn main() -> leveret::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "models/demo".into());
    let builder = || Model::<Flex>::builder(&dir).dtype(RunDtype::Float32);
    let mut mine = builder().custom_architecture::<Mine>().load()?;
    let mut llama = builder().load()?;

    let tokens: Vec<u32> = (0..64).map(|i| 100 + i * 13 % 900).collect();
    let (mine, llama) = (mine.logits(&tokens, &[])?, llama.logits(&tokens, &[])?);
    let differences = mine.iter().flatten().zip(llama.iter().flatten()).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0.0, f32::max);
    println!("largest difference from the built-in Llama: {largest:.1e}");
    assert!(largest < 1e-3);
    Ok(())
}
