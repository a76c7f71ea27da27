use leveret_models::LayerEmbedding;

use super::{Outline, Parameter};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// By which names a checkpoint has the parts of a model.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// What stands before the decoder's names.
    prefix: String,
    /// The tensor of the embedding.
    pub(crate) embedding: String,
    /// The tensor of the head: the embedding's if they are one.
    pub(crate) head: String,
    /// What stands before the names of the head's parameters, where it has tensors of its own.
    head_module: String,
}

impl Places {
    pub(crate) fn find(checkpoint: &Checkpoint, outline: &Outline) -> Result<Self> {
        let names = &outline.names;
        let has = |name: &str| checkpoint.get(name).is_some();
        // A model with a head, a bare decoder, and the text part of multimodal ones.
        let bare = names.prefix.strip_prefix("model.").unwrap_or_default();
        let prefixes = [names.prefix, bare, "language_model.model.", "model.language_model."];
        let named = |prefix: &str| format!("{prefix}{}", names.embedding);
        let some_layer =
            |prefix: &str| checkpoint.names().any(|name| name.starts_with(&format!("{prefix}{}.", names.layers)));
        let prefix = prefixes.into_iter().find(|prefix| has(&named(prefix)));
        let prefix = prefix.or_else(|| prefixes.into_iter().find(|prefix| some_layer(prefix))).unwrap_or(names.prefix);

        // transformers 5 calls every head `lm_head`.
        let name = names.head;
        let modules = [name.to_owned(), format!("language_model.{name}"), "lm_head".to_owned()];
        let head_module = modules.iter().find(|module| has(&format!("{module}.weight")));
        let own_head = head_module.map(|module| format!("{module}.weight"));
        let head_module = head_module.unwrap_or(&modules[0]).clone();
        let embedding = named(prefix);
        // A head in the file wins over what the config says; a tied embedding may be saved under the head's name.
        let (embedding, head) = match (own_head, outline.tied) {
            (Some(head), true) if !has(&embedding) => (head.clone(), head),
            (Some(head), _) => (embedding, head),
            (None, true) => (embedding.clone(), embedding),
            (None, false) => {
                let hint = "config.json does not say tie_word_embeddings: true, so the head must be in the checkpoint";
                let (path, tensor) = (checkpoint.dir().to_owned(), Self::own_head(outline));
                return Err(Error::MissingTensor { path, tensor, hint: hint.to_owned() });
            }
        };
        Ok(Self { prefix: prefix.to_owned(), embedding, head, head_module })
    }

    /// The name of a head that is a tensor of its own.
    pub(crate) fn own_head(outline: &Outline) -> String {
        format!("{}.weight", outline.names.head)
    }

    /// The name of an embedding that is a tensor of its own.
    pub(crate) fn own_embedding(&self, outline: &Outline) -> String {
        format!("{}{}", self.prefix, outline.names.embedding)
    }

    /// The embedding that layers read of beside hidden states, if there is one.
    pub(crate) fn layer_embedding(&self, outline: &Outline) -> Option<Parameter> {
        let LayerEmbedding { name, rows, width } = outline.layer_embedding?;
        Some(Parameter::new(format!("{}{name}", self.prefix), vec![rows, width]))
    }

    /// The tensors of a layer, each with its parameter.
    pub(crate) fn layer<'a>(
        &self,
        outline: &'a Outline,
        index: usize,
    ) -> impl Iterator<Item = (String, &'a Parameter)> {
        let layer = self.layer_prefix(outline, index);
        outline.layers[index].iter().map(move |parameter| {
            let source = &parameter.source;
            let name = match source.outside {
                true => format!("{}{}", self.prefix, source.tensor),
                false => format!("{layer}{}", source.tensor),
            };
            (name, parameter)
        })
    }

    /// What stands before all names of a layer.
    pub(crate) fn layer_prefix(&self, outline: &Outline, index: usize) -> String {
        format!("{}{}.{index}.", self.prefix, outline.names.layers)
    }

    /// What follows the prefix in the name of a tensor.
    pub(crate) fn rest<'a>(&self, tensor: &'a str) -> Option<&'a str> {
        tensor.strip_prefix(&self.prefix)
    }

    /// The layer that a tensor belongs to.
    pub(crate) fn layer_of(&self, outline: &Outline, tensor: &str) -> Option<usize> {
        let rest = tensor.strip_prefix(&self.prefix)?.strip_prefix(outline.names.layers)?.strip_prefix('.')?;
        rest.split('.').next()?.parse().ok()
    }

    /// The tensors of the final norm and of the head.
    pub(crate) fn head<'a>(&self, outline: &'a Outline) -> impl Iterator<Item = (String, &'a Parameter)> {
        outline.head.iter().map(|parameter| {
            let (part, rest) = parameter.name.split_once('.').unwrap_or((&parameter.name, ""));
            let name = match (part, rest) {
                (NORM, rest) => format!("{}{}.{rest}", self.prefix, outline.names.norm),
                (_, "weight") => self.head.clone(),
                (_, rest) => format!("{}.{rest}", self.head_module),
            };
            (name, parameter)
        })
    }

    /// Whether a tensor is one of the language model's, where a checkpoint has other towers beside it.
    pub(crate) fn owns(&self, tensor: &str, outline: &Outline) -> bool {
        let wrapped = self.prefix.contains("language_model");
        !wrapped || tensor.starts_with(&self.prefix) || tensor.starts_with(&format!("{}.", outline.names.head))
    }
}

/// The field of the head that is the final norm.
const NORM: &str = "norm";

impl Parameter {
    /// Whether it belongs to the final norm and not to the rows of the head.
    pub(crate) fn is_norm(&self) -> bool {
        self.name.split('.').next() == Some(NORM)
    }
}
