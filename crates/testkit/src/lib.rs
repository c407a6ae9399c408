//! Development only: virtual clock, FLV fixtures, publishers and viewers.
