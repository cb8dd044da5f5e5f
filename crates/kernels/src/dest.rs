//! Where a result goes, and whether it replaces or adds to what is there.
//!
//! The first gradient to reach a buffer stores over whatever it holds; later ones add.
//! So nothing is ever zeroed beforehand, and a buffer fresh from a pool may hold junk.
//!
//! ```
//! use formwork_kernels::{elementwise, dest::Dest};
//!
//! let mut sum = [f64::NAN; 2];
//! elementwise::scale(&[1.0, 2.0], 3.0, Dest::store(&mut sum));
//! elementwise::scale(&[1.0, 2.0], 0.5, Dest::add(&mut sum));
//! assert_eq!(sum, [3.5, 7.0]);
//! ```

use crate::Write;

/// A mutable slice together with how results meet its contents.
#[derive(Debug)]
pub struct Dest<'a, T> {
    /// The memory that is written.
    pub data: &'a mut [T],
    /// Whether results replace the contents or are added to them.
    pub write: Write,
}

impl<'a, T> Dest<'a, T> {
    /// Results replace the contents, which may be junk.
    pub fn store(data: &'a mut [T]) -> Self {
        Dest { data, write: Write::Store }
    }

    /// Results are added to the contents.
    pub fn add(data: &'a mut [T]) -> Self {
        Dest { data, write: Write::Add }
    }
}
