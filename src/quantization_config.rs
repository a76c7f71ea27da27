//! `quantization_config` of a `config.json`: the format that the linear layers of a checkpoint are packed in.

use leveret_models::weight::Format;
use serde_json::{Value, json};

/// Neighbours in a row that share a scale, in formats of integers.
const GROUP_SIZE: u64 = 32;

/// Rows and columns of a block that shares a scale, in the hub's FP8.
const WEIGHT_BLOCK_SIZE: [u64; 2] = [128, 128];

/// The format that an entry names, or why there is none.
pub(crate) fn read(entry: &Value) -> Result<Format, String> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str);
    match text("quant_method") {
        Some("leveret") => integers(entry),
        Some("fp8") => floats(entry),
        method => {
            let found = match method.or_else(|| bitsandbytes(entry)) {
                Some(method) => format!("asks for `{method}`"),
                None => "has no quant_method".to_owned(),
            };
            Err(format!(
                "{found}, expected none, `fp8` or `leveret`; use a checkpoint in F32, F16 or BF16, or what \
                 `leveret pack` makes of one"
            ))
        }
    }
}

/// The field by which old entries of bitsandbytes are known.
fn bitsandbytes(entry: &Value) -> Option<&'static str> {
    ["load_in_4bit", "load_in_8bit"].into_iter().find(|field| entry.get(field).and_then(Value::as_bool) == Some(true))
}

/// The entry that names a format, `fp8` as the hub spells it.
pub(crate) fn write(format: Format) -> Value {
    match bits(format) {
        Some(bits) => {
            json!({ "quant_method": "leveret", "bits": bits, "format": format.name(), "group_size": GROUP_SIZE })
        }
        None => json!({
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "weight_block_size": WEIGHT_BLOCK_SIZE,
            "fmt": "e4m3",
        }),
    }
}

/// Bits of a code, of the formats of integers.
fn bits(format: Format) -> Option<u64> {
    match format {
        Format::Int8 => Some(8),
        Format::Int4 => Some(4),
        Format::Fp8 => None,
    }
}

fn integers(entry: &Value) -> Result<Format, String> {
    let name = entry.get("format").unwrap_or(&Value::Null);
    let named =
        Format::ALL.into_iter().find_map(|format| Some((format, bits(format)?)).filter(|_| *name == format.name()));
    let Some((format, bits)) = named else {
        return Err(wrong("format", name, "\"int8\" or \"int4\""));
    };
    require(entry, "bits", &json!(bits))?;
    require(entry, "group_size", &json!(GROUP_SIZE))?;
    Ok(format)
}

fn floats(entry: &Value) -> Result<Format, String> {
    expect(entry, "fmt", &json!("e4m3"))?;
    // Scales of activations that were measured beforehand come as tensors of their own.
    expect(entry, "activation_scheme", &json!("dynamic"))?;
    match entry.get("weight_block_size") {
        Some(size) if *size == json!(WEIGHT_BLOCK_SIZE) => Ok(Format::Fp8),
        size => Err(wrong("weight_block_size", size.unwrap_or(&Value::Null), "[128,128]: a scale for each block")),
    }
}

/// An error unless a field is there and says this.
fn require(entry: &Value, field: &str, expected: &Value) -> Result<(), String> {
    let found = entry.get(field).unwrap_or(&Value::Null);
    if found == expected { Ok(()) } else { Err(wrong(field, found, &expected.to_string())) }
}

/// An error if a field is there and says something else.
fn expect(entry: &Value, field: &str, expected: &Value) -> Result<(), String> {
    match entry.get(field) {
        Some(found) if found != expected => Err(wrong(field, found, &expected.to_string())),
        _ => Ok(()),
    }
}

fn wrong(field: &str, found: &Value, expected: &str) -> String {
    format!("has {field} = {found}, expected {expected}; pack the original checkpoint with `leveret pack`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for format in Format::ALL {
            assert_eq!(read(&write(format)), Ok(format));
        }
    }

    #[test]
    fn contradictions_are_named() {
        let changed = |format, field: &str, value: Value| {
            let mut entry = write(format);
            entry[field] = value;
            read(&entry).unwrap_err()
        };
        assert!(changed(Format::Int8, "bits", 4.into()).starts_with("has bits = 4, expected 8"));
        assert!(changed(Format::Int8, "bits", Value::Null).starts_with("has bits = null, expected 8"));
        assert!(changed(Format::Int4, "quant_method", Value::Null).starts_with("has no quant_method"));
        assert!(read(&json!({"load_in_4bit": true})).unwrap_err().starts_with("asks for `load_in_4bit`"));
        assert!(changed(Format::Int4, "group_size", 128.into()).starts_with("has group_size = 128, expected 32"));
        assert!(changed(Format::Int4, "format", "nf4".into()).contains("expected \"int8\" or \"int4\""));
        assert!(changed(Format::Int4, "format", "fp8".into()).contains("expected \"int8\" or \"int4\""));
        assert!(changed(Format::Int4, "quant_method", "awq".into()).starts_with("asks for `awq`"));
        assert!(changed(Format::Fp8, "activation_scheme", "static".into()).contains("expected \"dynamic\""));
        assert!(changed(Format::Fp8, "weight_block_size", Value::Null).contains("expected [128,128]"));
        assert!(changed(Format::Fp8, "fmt", "e5m2".into()).contains("expected \"e4m3\""));
    }
}
