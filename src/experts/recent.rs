use std::collections::{BTreeMap, HashMap};

/// An expert: its layer, and its number there.
pub(super) type Key = (usize, usize);

/// Things of experts, in the order in which they were last used.
#[derive(Debug)]
pub(super) struct Recent<T> {
    things: HashMap<Key, (u64, T)>,
    /// When each was last used.
    uses: BTreeMap<u64, Key>,
    next: u64,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { things: HashMap::new(), uses: BTreeMap::new(), next: 0 }
    }
}

impl<T> Recent<T> {
    pub(super) fn len(&self) -> usize {
        self.things.len()
    }

    pub(super) fn contains(&self, key: Key) -> bool {
        self.things.contains_key(&key)
    }

    /// What belongs to an expert, which counts as a use.
    pub(super) fn get(&mut self, key: Key) -> Option<&T> {
        let (used, thing) = self.things.get_mut(&key)?;
        self.uses.remove(used);
        *used = self.next;
        self.uses.insert(self.next, key);
        self.next += 1;
        Some(thing)
    }

    pub(super) fn insert(&mut self, key: Key, thing: T) {
        self.remove(key);
        self.things.insert(key, (self.next, thing));
        self.uses.insert(self.next, key);
        self.next += 1;
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let (used, thing) = self.things.remove(&key)?;
        self.uses.remove(&used);
        Some(thing)
    }

    /// The expert that has not been used for the longest, of those that may go.
    pub(super) fn oldest(&self, may_go: impl Fn(Key) -> bool) -> Option<Key> {
        self.uses.values().copied().find(|key| may_go(*key))
    }

    pub(super) fn retain(&mut self, stays: impl Fn(Key) -> bool) {
        self.things.retain(|key, _| stays(*key));
        self.uses.retain(|_, key| stays(*key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_one_not_used_for_the_longest() {
        let mut recent = Recent::default();
        (0..4).for_each(|expert| recent.insert((0, expert), expert));
        assert_eq!(recent.get((0, 0)), Some(&0));
        assert_eq!(recent.oldest(|_| true), Some((0, 1)));
        assert_eq!(recent.oldest(|key| key != (0, 1)), Some((0, 2)));
        recent.insert((0, 1), 9);
        assert_eq!((recent.oldest(|_| true), recent.len()), (Some((0, 2)), 4));
        assert_eq!(recent.remove((0, 2)), Some(2));
        assert_eq!(recent.remove((0, 2)), None);
        recent.retain(|(_, expert)| expert == 1);
        assert_eq!((recent.oldest(|_| true), recent.len()), (Some((0, 1)), 1));
    }
}
