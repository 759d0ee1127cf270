//! In the place of `src/atomic.rs`: loom's atomics, with sequential consistency.
//!
//! loom treats a sequentially consistent access as an acquire and release, which is less: the protocol of sleeping
//! and waking needs the rest, and loom would report it wrongly. So such an access also touches one hidden word: a load
//! acquires it first, a store releases it afterwards, both by a read-modify-write, which puts all of them in one order.
//! Then of two threads that each store one word and load the other's, one sees the other (Dekker); and an access that
//! is less than sequentially consistent gets nothing of it, so that one that should be is found.
//! (Two accesses to different words are ordered by this where C11 does not order them: a bug that needs those to be
//! unordered is not found.)

use loom::sync::atomic as loom_atomic;
pub(crate) use loom_atomic::Ordering;

loom::lazy_static! {
    static ref ORDER: loom_atomic::AtomicU32 = loom_atomic::AtomicU32::new(0);
}

fn before_load(order: Ordering) {
    if order == Ordering::SeqCst {
        ORDER.fetch_add(0, Ordering::Acquire);
    }
}

fn after_store(order: Ordering) {
    if order == Ordering::SeqCst {
        ORDER.fetch_add(0, Ordering::Release);
    }
}

macro_rules! atomics {
    ($($name:ident $([$parameter:ident])? = $value:ty;)*) => {$(
        pub(crate) struct $name$(<$parameter>)?(loom_atomic::$name$(<$parameter>)?);

        impl$(<$parameter>)? $name$(<$parameter>)? {
            pub(crate) fn new(value: $value) -> Self {
                Self(loom_atomic::$name::new(value))
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                before_load(order);
                self.0.load(order)
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, order);
                after_store(order);
            }

            #[track_caller]
            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                before_load(order);
                let old = self.0.swap(value, order);
                after_store(order);
                old
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                before_load(success);
                let result = self.0.compare_exchange(current, new, success, failure);
                if result.is_ok() {
                    after_store(success);
                }
                result
            }

            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }

            #[track_caller]
            pub(crate) fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                mut update: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut old = self.load(failure);
                while let Some(new) = update(old) {
                    match self.compare_exchange(old, new, success, failure) {
                        Ok(old) => return Ok(old),
                        Err(now) => old = now,
                    }
                }
                Err(old)
            }
        }
    )*};
}

atomics! {
    AtomicBool = bool;
    AtomicI32 = i32;
    AtomicU32 = u32;
    AtomicU64 = u64;
    AtomicPtr[T] = *mut T;
}

impl AtomicU64 {
    /// Its memory is given to somebody else: loom ends the test when another thread may touch it at the same time.
    #[track_caller]
    pub(crate) fn end(&mut self) {
        self.0.with_mut(|_| ());
    }
}

macro_rules! arithmetic {
    ($($name:ident $value:ty: $($method:ident)*;)*) => {$(
        impl $name {
            $(
                #[track_caller]
                pub(crate) fn $method(&self, value: $value, order: Ordering) -> $value {
                    before_load(order);
                    let old = self.0.$method(value, order);
                    after_store(order);
                    old
                }
            )*
        }
    )*};
}

arithmetic! {
    AtomicU32 u32: fetch_add fetch_sub;
    AtomicU64 u64: fetch_or;
}

macro_rules! table {
    ($(#[$doc:meta])* static $name:ident: [$entry:ty; $count:expr] = $value:expr) => {
        loom::lazy_static! {
            $(#[$doc])* static ref $name: [$entry; $count] = core::array::from_fn(|_| $value);
        }
    };
}
pub(crate) use table;
