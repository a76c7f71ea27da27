//! From `config.json` to an architecture.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Architecture, ConfigError};

/// Code that works for any architecture; the engine is one.
pub trait Visitor {
    /// What it makes.
    type Output;
    /// Called with the parsed config of the architecture that was found.
    fn visit<A: Architecture>(self, architecture: A) -> Self::Output;
}

/// One supported family, for tables and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// What people call it.
    pub name: &'static str,
    /// Its `model_type` values.
    pub model_types: &'static [&'static str],
}

macro_rules! architectures {
    ($($architecture:ty),+ $(,)?) => {
        /// Every supported family.
        pub const FAMILIES: &[Family] = &[$(Family {
            name: <$architecture>::FAMILY,
            model_types: <$architecture>::MODEL_TYPES,
        }),+];

        /// Reads a `config.json` and hands the architecture that its `model_type` names to `visitor`.
        ///
        /// A config with a `text_config` of a supported type and an own type that is not (a multimodal wrapper) is
        /// read through that.
        pub fn open<V: Visitor>(config: &str, visitor: V) -> Result<V::Output, ConfigError> {
            let (model_type, config) = text_model(config)?;
            $(if <$architecture>::MODEL_TYPES.contains(&model_type.as_str()) {
                let architecture: $architecture = parse(&config)?;
                architecture.check()?;
                return Ok(visitor.visit(architecture));
            })+
            Err(unknown(model_type))
        }
    };
}

architectures![
    crate::Llama,
    crate::Mistral,
    crate::Mixtral,
    crate::Qwen2,
    crate::Qwen2Moe,
    crate::Qwen3,
    crate::Qwen3Moe,
    crate::Qwen3Next,
    crate::Qwen35,
    crate::Qwen35Moe,
    crate::Lfm2,
    crate::Mamba2,
    crate::GraniteMoeHybrid,
    crate::Jamba,
    crate::MiniMax,
    crate::KimiLinear,
    crate::DeepseekV2,
    crate::DeepseekV3,
    crate::MiniCpm3,
    crate::Dots1,
    crate::GptOss,
    crate::Olmoe,
    crate::Glm4Moe,
    crate::MiniMaxM2,
    crate::Ernie4_5Moe,
    crate::GraniteMoe,
    crate::Llama4,
    crate::PhiMoe,
    crate::Gemma,
    crate::Gemma2,
    crate::Gemma3,
    crate::Gemma3n,
    crate::Gemma4,
    crate::Phi,
    crate::Phi3,
    crate::Glm,
    crate::Glm4,
    crate::Olmo,
    crate::Olmo2,
    crate::Granite,
    crate::Cohere,
    crate::Cohere2,
    crate::StableLm,
    crate::Starcoder2,
    crate::SmolLm3,
    crate::Exaone4,
    crate::Arcee,
    crate::Nemotron,
    crate::SeedOss,
    crate::Helium,
    crate::Ernie45,
    crate::Ministral,
    crate::Ministral3,
    crate::HunYuan,
    crate::InternLm3,
    crate::Olmo3,
    crate::Apertus,
    crate::Gpt2,
    crate::GptBigCode,
    crate::GptJ,
    crate::Opt,
    crate::Bloom,
    crate::Falcon,
    crate::Mpt,
    crate::GptNeoX,
    crate::Persimmon,
    crate::InternLm,
    crate::InternLm2,
    crate::Baichuan,
    crate::Qwen,
    crate::ChatGlm,
];

/// Reads a `config.json` as an architecture that need not be in the registry, if it has one of its types.
pub fn read_as<A: Architecture>(config: &str) -> Result<Option<A>, ConfigError> {
    let Kind { model_type, .. } = parse(config)?;
    if !A::MODEL_TYPES.contains(&model_type.as_str()) {
        return Ok(None);
    }
    let architecture: A = parse(config)?;
    architecture.check()?;
    Ok(Some(architecture))
}

#[derive(Deserialize)]
struct Kind {
    model_type: String,
    text_config: Option<serde_json::Value>,
}

/// The type and the text of the config that describes the decoder.
fn text_model(config: &str) -> Result<(String, String), ConfigError> {
    let Kind { model_type, text_config } = parse(config)?;
    if let Some(nested) = text_config
        && !supported().any(|name| name == model_type)
        && let Some(nested_type) = nested.get("model_type").and_then(|name| name.as_str())
        && supported().any(|name| name == nested_type)
    {
        return Ok((nested_type.to_owned(), nested.to_string()));
    }
    Ok((model_type, config.to_owned()))
}

fn parse<T: DeserializeOwned>(config: &str) -> Result<T, ConfigError> {
    let whole = |error: serde_json::Error| ConfigError::Field { field: ".".to_owned(), reason: error.to_string() };
    // Read as any JSON first, so that a value of a wrong type is told apart from a file that is no JSON.
    let json: serde_json::Value = serde_json::from_str(config).map_err(whole)?;
    serde_path_to_error::deserialize(&json).map_err(|error| {
        let (field, reason) = (error.path().to_string(), in_jsons_words(error.inner().to_string()));
        // Where a config is read in parts, the reason names the field.
        match reason.strip_prefix('`').and_then(|reason| reason.split_once("`: ")) {
            Some((field, reason)) => ConfigError::Field { field: field.to_owned(), reason: reason.to_owned() },
            None => ConfigError::Field { field, reason },
        }
    })
}

/// What the parser says in the words of JSON and not of this program's types.
pub(crate) fn in_jsons_words(reason: String) -> String {
    let Some((found, expected)) = reason.rsplit_once("expected ") else { return reason };
    let expected = match expected {
        "usize" | "u8" | "u32" | "u64" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "string or map" => "a string",
        "a map" => "an object",
        "a boolean" => "true or false",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("{found}expected {expected}")
}

fn supported() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.model_types).copied()
}

fn unknown(found: String) -> ConfigError {
    let nearest = supported()
        .map(|name| (strsim::jaro_winkler(name, &found), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name);
    ConfigError::UnknownModelType { found, nearest, supported: supported().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dims;

    struct ReadDims;
    impl Visitor for ReadDims {
        type Output = Dims;
        fn visit<A: Architecture>(self, architecture: A) -> Dims {
            architecture.dims()
        }
    }

    const MISTRAL: &str = r#"{"model_type":"mistral","hidden_size":64,"intermediate_size":96,"num_hidden_layers":3,
        "num_attention_heads":4,"num_key_value_heads":2,"head_dim":null,"rms_norm_eps":1e-5,"vocab_size":100}"#;

    #[test]
    fn opens_by_model_type() {
        let dims = open(MISTRAL, ReadDims).unwrap();
        assert_eq!((dims.num_layers, dims.head_dim, dims.num_kv_heads), (3, 16, 2));
    }

    /// transformers' classes differ in it.
    #[test]
    fn an_absent_epsilon_is_the_familys_own() {
        struct Epsilon;
        impl Visitor for Epsilon {
            type Output = f64;
            fn visit<A: Architecture>(self, architecture: A) -> f64 {
                architecture.config().rms_norm_eps()
            }
        }
        for (model_type, epsilon) in [("llama", 1e-6), ("minicpm3", 1e-5), ("mixtral", 1e-5), ("glm4", 1.562_5e-7)] {
            let config = MISTRAL.replace("mistral", model_type).replace("rms_norm_eps", "other");
            assert_eq!(open(&config, Epsilon).unwrap(), epsilon, "{model_type}");
        }
    }

    #[test]
    fn opens_the_text_part_of_a_multimodal_config() {
        let config = format!(r#"{{"model_type":"some_vision_model","text_config":{MISTRAL}}}"#);
        assert_eq!(open(&config, ReadDims).unwrap().num_layers, 3);
    }

    #[test]
    fn wrong_types_are_told_in_jsons_words() {
        let says = |field: &str, value: &str| {
            let config = MISTRAL.replacen("{", &format!(r#"{{"{field}":{value},"#), 1);
            open(&config, ReadDims).unwrap_err().to_string()
        };
        assert_eq!(says("hidden_act", "3"), "`hidden_act`: invalid type: integer `3`, expected a string");
        let long = "`max_position_embeddings`: invalid type: floating point `1.5`, expected a whole number";
        assert_eq!(says("max_position_embeddings", "1.5"), long);
        let theta = "`rope_theta`: invalid type: string \"x\", expected a number";
        assert_eq!(says("rope_theta", "\"x\""), theta);
        assert!(open("[]", ReadDims).unwrap_err().to_string().ends_with("expected an object"));
    }

    #[test]
    fn unknown_types_are_answered_with_the_nearest() {
        let error = open(r#"{"model_type":"qwen33"}"#, ReadDims).unwrap_err().to_string();
        assert!(error.contains("`qwen33` (nearest: `qwen3`); supported are llama"), "{error}");
    }

    #[test]
    fn a_wrong_field_is_named() {
        let error = open(&MISTRAL.replace("96", "\"wide\""), ReadDims).unwrap_err().to_string();
        assert!(error.starts_with("`intermediate_size`: invalid type: string \"wide\""), "{error}");
        let error = open(&MISTRAL.replace("\"num_key_value_heads\":2", "\"num_key_value_heads\":3"), ReadDims);
        assert_eq!(
            error.unwrap_err().to_string(),
            "`num_key_value_heads` is 3, expected a divisor of num_attention_heads = 4"
        );
    }
}
