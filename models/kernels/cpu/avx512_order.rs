use super::input::{Floats, Pairs, QuantisedBlock};
use super::matrix::BLOCK;

/// Cuts each number in two signed bytes: `[high or low, half of a group, group, 16]`.
#[inline(always)]
pub(super) fn arrange(block: &mut QuantisedBlock) {
    let mut bytes = [0; 2 * BLOCK];
    for (i, numbers) in block.numbers.as_chunks::<16>().0.iter().enumerate() {
        let (group, half) = (i / 2, i % 2);
        let (high, low) = bytes.split_at_mut(BLOCK);
        let at = half * 64 + group * 16;
        for (place, number) in numbers.iter().enumerate() {
            high[at + place] = ((number - i16::from(*number as i8)) >> 8) as i8;
            low[at + place] = *number as i8;
        }
    }
    for (numbers, start) in block.numbers.as_chunks::<32>().0.iter().zip(block.starts.as_chunks_mut::<4>().0) {
        for (lane, start) in start.iter_mut().enumerate() {
            let sum = |at: usize| numbers[at..at + 4].iter().map(|number| i32::from(*number)).sum::<i32>();
            *start = -128 * (sum(4 * lane) + sum(16 + 4 * lane));
        }
    }
    for (number, bytes) in block.numbers.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *number = i16::from_le_bytes(bytes.map(|byte| byte as u8));
    }
}

/// Puts the numbers of a lane, whose codes lie side by side, in the places that the tables' results take.
pub(super) fn shuffle(floats: &mut Floats) {
    let numbers = floats.0;
    for (codes, numbers) in floats.0.as_chunks_mut::<64>().0.iter_mut().zip(numbers.as_chunks::<64>().0) {
        for (lane, numbers) in numbers.as_chunks::<16>().0.iter().enumerate() {
            for place in 0..4 {
                for vector in 0..4 {
                    codes[vector * 16 + lane * 4 + place] = numbers[vector / 2 * 8 + place * 2 + vector % 2];
                }
            }
        }
    }
}

/// The same for pairs of neighbours: of 64 numbers first those that the tables' lower results are multiplied by.
pub(super) fn shuffle_pairs(pairs: &mut Pairs) {
    for pairs in pairs.0.as_chunks_mut::<32>().0 {
        let from = *pairs;
        for (i, pair) in pairs.iter_mut().enumerate() {
            let (half, lane, place) = (i / 16, i % 16 / 4, i % 4);
            *pair = from[8 * lane + 4 * half + place];
        }
    }
}
