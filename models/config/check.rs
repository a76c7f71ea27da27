use super::decoder::Pattern;
use super::{ConfigError, DecoderConfig, unsupported};

/// More layers than any model has: what is made for each of them stays small.
pub(crate) const MOST_LAYERS: usize = 10_000;

/// Refuses sizes that are nothing, or more than any model has.
pub(crate) fn check_sizes(sizes: impl IntoIterator<Item = (&'static str, usize)>) -> Result<(), ConfigError> {
    match sizes.into_iter().find(|(_, size)| *size == 0 || *size > 1 << 16) {
        Some((field, size)) => Err(unsupported(field, size, "a positive number up to 65536")),
        None => Ok(()),
    }
}

impl DecoderConfig {
    /// Refuses what no layer of this kind can compute.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_kv_heads()),
            ("head_dim", self.head_dim()),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_positions()),
            ("sliding_window", self.sliding_window.flatten().unwrap_or(1)),
            ("no_rope_layer_interval", self.no_rope_layer_interval.unwrap_or(1)),
            (
                "sliding_window_pattern",
                if let Some(Pattern::Every(count)) = self.sliding_window_pattern { count } else { 1 },
            ),
        ];
        for (field, value) in positive {
            let largest = if field == "num_hidden_layers" { MOST_LAYERS } else { i32::MAX as usize };
            if value == 0 || value > largest {
                return Err(unsupported(field, value, format!("a positive number up to {largest}")));
            }
        }
        // What Gemmas divide by.
        let divisors = [
            ("attn_logit_softcapping", self.attn_logit_softcapping),
            ("final_logit_softcapping", self.final_logit_softcapping),
            ("query_pre_attn_scalar", self.query_pre_attn_scalar),
        ];
        for (field, divisor) in divisors {
            if let Some(divisor) = divisor.filter(|divisor| self.style.softcaps && !(1e-3..=1e6).contains(divisor)) {
                return Err(unsupported(field, divisor, "a number from 0.001 to 1000000, or null"));
            }
        }
        if let Some(most) = self.clip_qkv.filter(|most| !(0.0..=f64::MAX).contains(most)) {
            return Err(unsupported("clip_qkv", most, "a number from 0 on, or null"));
        }
        for (field, eps) in [("rms_norm_eps", self.rms_norm_eps), ("layer_norm_eps", self.layer_norm_eps)] {
            if let Some(eps) = eps.filter(|eps| !(0.0..=1.0).contains(eps)) {
                return Err(unsupported(field, eps, "a number from 0 to 1"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_kv_heads()) {
            let expected = format!("a divisor of num_attention_heads = {}", self.num_attention_heads);
            return Err(unsupported("num_key_value_heads", self.num_kv_heads(), expected));
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a multiple of num_attention_heads = {}", self.num_attention_heads);
            return Err(unsupported("hidden_size", self.hidden_size, expected));
        }
        if !self.head_dim().is_multiple_of(2) {
            return Err(unsupported("head_dim", self.head_dim(), "an even number"));
        }
        self.check_kinds(self.layer_types.as_deref(), &["full_attention", "sliding_attention"])?;
        let rope = self.rope();
        if let Some(dim) = rope.rotary_dim.filter(|dim| *dim > self.head_dim()) {
            let expected = format!("up to head_dim = {}", self.head_dim());
            return Err(unsupported("partial_rotary_factor", format!("for {dim} numbers of a head"), expected));
        }
        rope.check()
    }

    /// Refuses a model whose tokens see those behind them.
    pub(crate) fn check_generates(&self) -> Result<(), ConfigError> {
        match &self.use_bidirectional_attention {
            Some(value) if *value == true || *value == "all" => {
                Err(unsupported("use_bidirectional_attention", value, "false: text is generated forwards"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a `layer_types` that does not give each layer one of the `known` kinds.
    pub(crate) fn check_kinds(&self, kinds: Option<&[String]>, known: &[&str]) -> Result<(), ConfigError> {
        let Some(kinds) = kinds else { return Ok(()) };
        if kinds.len() != self.num_hidden_layers {
            let expected = format!("one entry for each of {} layers", self.num_hidden_layers);
            return Err(unsupported("layer_types", format!("of length {}", kinds.len()), expected));
        }
        match kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
            Some(kind) => Err(unsupported("layer_types", kind, known.join(" or "))),
            None => Ok(()),
        }
    }
}
