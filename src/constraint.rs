use crate::error::Result;

/// Says which tokens a reply may be made of, such as those of a JSON document; may be asked on any thread.
pub trait Constraint: Send {
    /// Sets the logits of tokens that may not come next to negative infinity.
    fn mask(&mut self, logits: &mut [f32]) -> Result<()>;

    /// Takes note of the token that came; gives those that have to follow, which no pass is needed to choose.
    fn push(&mut self, id: u32) -> Result<Vec<u32>>;
}
