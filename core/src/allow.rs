//! Who can never be banned, and the proof that a prefix may be.
//!
//! [`Bannable`] is the only thing the ban table takes, and [`AllowList`] is the only place that
//! hands one out. It is a word of floor 0 because the judge, the flood guard and the operator all
//! need it, and the ban table too; none of those may import another.
