//! Finding numbers by what they stand for, without holding it: a hash table of `u32`.
//!
//! The keys (texts in one buffer, pairs in one list) stay where they are, so a place takes four bytes. Places are tried
//! in a row from where the hash says; what a number leaves free of its place holds bits of the hash, so that few others
//! are looked at in vain. The hash has a secret of the process: no file can be made so that all its keys collide.

use std::hash::{BuildHasher, Hash, RandomState};

/// No number.
const FREE: u32 = u32::MAX;

/// Numbers below a bound that is known from the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Of each place: bits of the hash above, the number below.
    places: Vec<u32>,
    /// The bits of a number.
    number: u32,
    hasher: RandomState,
}

impl Table {
    /// Room for the numbers below `count`, which may be 2^30 at most.
    pub(crate) fn new(count: usize) -> Self {
        assert!(count <= 1 << 30, "checked before: no list is that long");
        // At most three quarters full. The greatest number is below the mask, so that no entry looks free.
        let places = (count + count.div_ceil(3)).next_power_of_two().max(2);
        let number = (count as u32 + 1).next_power_of_two() - 1;
        Table { places: vec![FREE; places], number, hasher: RandomState::new() }
    }

    /// The number of a key; `same` says whether a number stands for it.
    pub(crate) fn find(&self, key: &(impl Hash + ?Sized), same: impl Fn(u32) -> bool) -> Option<u32> {
        self.search(self.hasher.hash_one(key), same).ok()
    }

    /// Enters a number for a key, unless another stands for it, which is returned.
    pub(crate) fn insert(
        &mut self,
        key: &(impl Hash + ?Sized),
        number: u32,
        same: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        match self.search(hash, same) {
            Ok(other) => Some(other),
            Err(place) => {
                self.places[place] = self.tag(hash) | number;
                None
            }
        }
    }

    /// The bits of a hash that stand beside a number.
    fn tag(&self, hash: u64) -> u32 {
        (hash >> 32) as u32 & !self.number
    }

    /// The number of a key, or the place where it should be.
    fn search(&self, hash: u64, same: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let (tag, mask) = (self.tag(hash), self.places.len() - 1);
        let mut place = hash as usize & mask;
        loop {
            let entry = self.places[place];
            if entry == FREE {
                return Err(place);
            }
            if entry & !self.number == tag && same(entry & self.number) {
                return Ok(entry & self.number);
            }
            place = (place + 1) & mask;
        }
    }
}

/// Nothing is in it.
impl Default for Table {
    fn default() -> Self {
        Table::new(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enters every key twice and looks for it and for one that is not there.
    fn check(count: usize) {
        let keys: Vec<String> = (0..count).map(|i| format!("{}", i * i)).collect();
        let mut table = Table::new(count);
        for (key, number) in keys.iter().zip(0..) {
            assert_eq!(table.insert(key, number, |other| keys[other as usize] == *key), None);
            assert_eq!(table.insert(key, number, |other| keys[other as usize] == *key), Some(number));
        }
        for (key, number) in keys.iter().zip(0..) {
            assert_eq!(table.find(key, |other| keys[other as usize] == *key), Some(number));
            let other = format!("{key}x");
            assert_eq!(table.find(&other, |number| keys[number as usize] == other), None);
        }
        assert!(table.places.len() <= 2 + 3 * count, "{} places for {count}", table.places.len());
    }

    #[test]
    fn every_number_is_found_by_its_key_and_no_other() {
        [0, 1, 2, 3, 7, 48, 49, 1023, 1024, 1025, 30_011].into_iter().for_each(check);
        assert_eq!(Table::default().find("", |_| true), None);
    }
}
