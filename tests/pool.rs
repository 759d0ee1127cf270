//! Pools of values, against a list of what is in.
#![forbid(unsafe_code)]

use becket::{Error, Pool};
use std::collections::BTreeMap;

#[test]
fn each_value_is_in_once_and_comes_back() {
    let (mut pool, mut model) = (Pool::<u64, 5>::default(), BTreeMap::new());
    let mut random = 1_u64;
    for value in 0..10_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let place = (random >> 8) as usize % 7;
        match random % 3 {
            0 => match pool.insert(value) {
                Ok(place) => assert!(place < 5 && model.insert(place, value).is_none()),
                Err(back) => assert_eq!((back, model.len()), (value, 5)),
            },
            1 => assert_eq!(pool.remove(place), model.remove(&place).ok_or(Error::STALE)),
            _ => {
                if let Some(value) = pool.get_mut(place) {
                    *value += 1;
                }
                if let Some(value) = model.get_mut(&place) {
                    *value += 1;
                }
            }
        }
        assert_eq!(pool.get(place), model.get(&place));
        assert!(pool.iter().eq(model.iter().map(|(place, value)| (*place, value))));
        assert_eq!((pool.len(), pool.is_empty(), pool.is_full()), (model.len(), model.is_empty(), model.len() == 5));
    }
    let mut none = Pool::<u64, 0>::new();
    assert_eq!((none.insert(1), none.remove(0), none.is_full()), (Err(1), Err(Error::STALE), true));
}
