//! A typed pool.

use crate::error::Result;
use crate::storage::pool::Places;

/// At most `N` values of one type, each with a number that stays the same as long as it is in: what belongs to a source, by
/// its token. Everything is within the value itself, and O(1).
///
/// ```
/// use becket::Pool;
///
/// let mut clients = Pool::<&str, 2>::new();
/// let ann = clients.insert("Ann").unwrap();
/// let bob = clients.insert("Bob").unwrap();
/// assert_eq!(clients.insert("Eve"), Err("Eve")); // full: the value comes back
/// assert_eq!(clients.remove(ann), Ok("Ann"));
/// assert_eq!(clients.remove(ann), Err(becket::Error::STALE));
/// assert_eq!(clients.get(bob), Some(&"Bob"));
/// ```
pub struct Pool<T, const N: usize> {
    places: Places,
    links: [u32; N],
    values: [Option<T>; N],
}

impl<T, const N: usize> Default for Pool<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Pool<T, N> {
    /// An empty pool.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(N < u32::MAX as usize) };
        Pool { places: Places::EMPTY, links: [0; N], values: [const { None }; N] }
    }

    /// Takes a value in, and tells its number; a full pool gives it back.
    pub fn insert(&mut self, value: T) -> core::result::Result<usize, T> {
        match self.places.take(&mut self.links) {
            Ok(place) => {
                self.values[place] = Some(value);
                Ok(place)
            }
            Err(_) => Err(value),
        }
    }

    /// Takes a value out. ESTALE: none has that number.
    pub fn remove(&mut self, place: usize) -> Result<T> {
        self.places.give(&mut self.links, place)?;
        self.values[place].take().ok_or(crate::error::Error::STALE)
    }

    /// The value with this number.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&T> {
        self.values.get(place)?.as_ref()
    }

    /// The value with this number.
    #[must_use]
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.values.get_mut(place)?.as_mut()
    }

    /// The values with their numbers, lowest first. O(N) for all.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.values.iter().enumerate().filter_map(|(place, value)| Some((place, value.as_ref()?)))
    }

    /// How many are in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.taken as usize
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.taken == 0
    }

    /// Whether there is no room for another.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == N
    }
}
