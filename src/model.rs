//! From a directory or a name to a model that generates: the one place where everything meets.

mod builder;

use std::path::Path;

use burn::tensor::DType;
use leveret_models::layers::Experts;
use leveret_models::weight::Format;
use leveret_models::{Backend, Dims};
use serde_json::Value;

pub use builder::Builder;

use crate::batch::Batch;
use crate::encoder::Encoder;
use crate::engine::{Cancellation, Engine, Request, Rows};
use crate::error::{Error, Result};
use crate::generate::{Completion, Generation};
use crate::generation_config::GenerationConfig;
use crate::options::GenerateOptions;
use crate::plan::{Plan, Prediction, Rates};
use crate::prompt::Prompt;
use crate::session::Session;
use crate::stats::Stats;
use crate::tokenizer::Tokenizer;
use crate::unit::Unit;

/// A language model on one backend, its weights resident or streamed as the budget decides.
pub struct Model<B: Backend> {
    engine: Engine<B>,
    encoder: Encoder,
    generation: GenerationConfig,
    config_dtype: Option<String>,
    format: Option<Format>,
}

impl<B: Backend> Model<B> {
    /// Loads a checkpoint with defaults; see [`Model::builder`] for more.
    pub fn from_pretrained(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).load()
    }

    /// Says how a checkpoint is to be loaded: that in directory `path`, or else the model of that name on the Hugging Face
    /// hub, as `org/name` or `org/name@revision`.
    pub fn builder(path: impl AsRef<Path>) -> Builder<B> {
        Builder::new(path.as_ref())
    }

    /// The directory of the checkpoint.
    pub(crate) fn dir(&self) -> &Path {
        &self.encoder.dir
    }

    /// How the model would run `batch` sequences of `prompt` tokens and `max_tokens` more.
    pub fn plan(&self, batch: usize, prompt: usize, max_tokens: usize) -> Result<Plan> {
        let columns = prompt.saturating_add(max_tokens);
        self.engine.plan_for(Request::new(batch, prompt, columns, Rows::Last))
    }

    /// Measures what this machine can do with this model, in a few seconds: reading, uploading and computing.
    pub fn measure(&mut self) -> Result<Rates> {
        self.engine.measure()
    }

    /// How long a pass over one token takes by a plan of this model, on a machine of these rates.
    pub fn predict(&self, plan: &Plan, rates: &Rates) -> Prediction {
        plan.predict(&self.engine.sizes(Request::one_token()), rates, self.engine.reads_ahead())
    }

    /// The names of the units, in the order of a plan.
    pub fn units(&self) -> Vec<String> {
        self.engine.units().iter().map(|unit| unit.kind.to_string()).collect()
    }

    /// Bytes of the tensors of each unit, in the order of a plan.
    pub fn unit_bytes(&self) -> Vec<u64> {
        self.engine.units().iter().map(Unit::bytes).collect()
    }

    /// Layer by layer, the experts that its tokens choose among, if it has some.
    pub fn experts(&self) -> Vec<Option<Experts>> {
        (0..self.dims().num_layers).map(|layer| self.engine.decoder().experts(layer)).collect()
    }

    /// Bytes of all tensors of the checkpoint.
    pub fn checkpoint_bytes(&self) -> u64 {
        self.engine.checkpoint().bytes()
    }

    /// The dtype that `config.json` names, if it does.
    pub fn config_dtype(&self) -> Option<&str> {
        self.config_dtype.as_deref()
    }

    /// The format that the checkpoint's linear layers are packed in, if they are.
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// Whether the devices have memory of their own, which `vram` is the budget of.
    pub fn has_device_memory(&self) -> bool {
        self.engine.has_own_memory()
    }

    /// Whether the checkpoint has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.encoder.template.is_some()
    }

    /// Sizes of the model.
    pub fn dims(&self) -> Dims {
        self.engine.dims()
    }

    /// The dtype of hidden states and KV cache.
    pub fn dtype(&self) -> DType {
        self.engine.dtype()
    }

    /// The checkpoint's tokenizer, if it has one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.encoder.tokenizer.as_deref()
    }

    /// Goes on from `prompt`, token by token.
    pub fn stream(&mut self, prompt: impl Into<Prompt>, options: &GenerateOptions) -> Result<Generation<'_, B>> {
        self.stream_batch([prompt], options)
    }

    /// Goes on from several prompts at once, which may differ in length: a pass serves them all.
    pub fn stream_batch<P: Into<Prompt>>(
        &mut self,
        prompts: impl IntoIterator<Item = P>,
        options: &GenerateOptions,
    ) -> Result<Generation<'_, B>> {
        let Self { encoder, engine, generation, .. } = self;
        let prompts = prompts.into_iter().map(|prompt| encoder.encode(prompt)).collect::<Result<Vec<_>>>()?;
        Generation::new(engine, encoder.tokenizer.as_deref(), generation, prompts, options)
    }

    /// Makes room for a conversation of so many positions, as many as the model has at most, whose keys and values are
    /// kept between turns.
    pub fn session(&mut self, context: usize) -> Result<Session<B>> {
        Session::new(&mut self.engine, context)
    }

    /// Writes a session to a file, and `note` beside it; the file is replaced once the new one is whole.
    pub fn save_session(&mut self, session: &Session<B>, path: impl AsRef<Path>, note: &Value) -> Result<()> {
        self.engine.entered(|_| session.save(path.as_ref(), note))
    }

    /// Makes room for a conversation with what was written of it to a file; gives the note beside it.
    pub fn load_session(&mut self, path: impl AsRef<Path>, context: usize) -> Result<(Session<B>, Value)> {
        let mut session = Session::new(&mut self.engine, context)?;
        let note = self.engine.entered(|engine| session.restore(path.as_ref(), |layer| engine.device_of(layer)))?;
        Ok((session, note))
    }

    /// Goes on from `prompt` in a session: of what the session has seen already, nothing is computed again.
    ///
    /// Where the session holds the beginning of a reply to the same prompt, its tokens come first, and it goes on.
    pub fn stream_in<'a>(
        &'a mut self,
        session: &'a mut Session<B>,
        prompt: impl Into<Prompt>,
        options: &GenerateOptions,
    ) -> Result<Generation<'a, B>> {
        let Self { encoder, engine, generation, .. } = self;
        let prompt = encoder.encode(prompt)?;
        Generation::within(engine, session, encoder.tokenizer.as_deref(), generation, prompt, options)
    }

    /// Makes room for so many sequences of so many positions each, which join and leave while passes go on.
    pub fn batch(&mut self, max_sequences: usize, context: usize) -> Result<Batch<'_, B>> {
        let context = context.min(self.dims().max_positions);
        let Self { encoder, engine, generation, .. } = self;
        Batch::new(engine, encoder.tokenizer.as_deref(), generation, (max_sequences, context))
    }

    /// What makes token ids of prompts, for threads that have no model.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The checkpoint's own defaults.
    #[cfg(feature = "server")]
    pub(crate) fn generation_config(&self) -> &GenerationConfig {
        &self.generation
    }

    /// What constraints that keep replies to a JSON schema are made of.
    #[cfg(feature = "json_schema")]
    pub fn grammars(&self) -> Result<crate::json_schema::Grammars> {
        let tokenizer = self.encoder.tokenizer.clone();
        let tokenizer = tokenizer.ok_or_else(|| Error::NoTokenizer { path: self.dir().to_owned() })?;
        crate::json_schema::Grammars::new(tokenizer, &self.generation.eos_token_id.0, self.dims().vocab_size)
    }

    /// What ends a pass from another thread.
    pub fn cancellation(&self) -> Cancellation {
        self.engine.cancellation()
    }

    /// Goes on from `prompt` to the end.
    pub fn generate(&mut self, prompt: impl Into<Prompt>, options: &GenerateOptions) -> Result<(Completion, Stats)> {
        let (mut completions, stats) = self.stream(prompt, options)?.finish()?;
        Ok((completions.remove(0), stats))
    }

    /// Goes on from several prompts at once to the end of each.
    pub fn generate_batch<P: Into<Prompt>>(
        &mut self,
        prompts: impl IntoIterator<Item = P>,
        options: &GenerateOptions,
    ) -> Result<(Vec<Completion>, Stats)> {
        self.stream_batch(prompts, options)?.finish()
    }

    /// The logits `[tokens][vocab_size]` after every token of a sequence, computed in passes of the given lengths.
    ///
    /// `passes` says how many tokens each pass takes, so that the KV cache can be compared with a single pass; what is
    /// left of the tokens makes one more pass.
    pub fn logits(&mut self, tokens: &[u32], passes: &[usize]) -> Result<Vec<Vec<f32>>> {
        let left = tokens.len().saturating_sub(passes.iter().sum());
        let longest = passes.iter().copied().chain([left]).max().unwrap_or(0).min(tokens.len());
        let request = Request::new(1, longest, tokens.len(), Rows::All);
        let mut cache = self.engine.begin(request)?;
        let mut rest = tokens;
        let mut logits = Vec::new();
        for take in passes.iter().copied().chain([usize::MAX]) {
            let (part, after) = rest.split_at(take.min(rest.len()));
            rest = after;
            if !part.is_empty() {
                let (rows, _) = self.engine.forward(&[part.to_vec()], &mut cache, Rows::All)?;
                logits.extend(rows.rows().map(<[f32]>::to_vec));
            }
        }
        match logits.is_empty() {
            true => Err(Error::EmptyPrompt),
            false => Ok(logits),
        }
    }
}

impl<B: Backend> Model<B> {
    /// The logits before every token of given replies, reply by reply: the prompts in one pass, then a pass a token.
    pub(crate) fn forced_logits(&mut self, prompts: Vec<Vec<u32>>, replies: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let steps = replies.first().map_or(0, Vec::len);
        let request = Request::new(prompts.len(), longest, longest + steps, Rows::Last);
        let mut cache = self.engine.begin(request)?;
        let mut logits = vec![Vec::new(); prompts.len()];
        let mut input = prompts;
        for step in 0..steps {
            let (rows, _) = self.engine.forward(&input, &mut cache, Rows::Last)?;
            logits.iter_mut().zip(rows.rows()).for_each(|(logits, row)| logits.push(row.to_vec()));
            input = replies.iter().map(|reply| reply.get(step..=step).unwrap_or(&[]).to_vec()).collect();
        }
        Ok(logits.concat())
    }
}

impl<B: Backend> std::fmt::Debug for Model<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("dir", &self.encoder.dir).field("dims", &self.dims()).finish_non_exhaustive()
    }
}
