//! Clients that ask for more than they should get. They hold and cost a bounded amount, and are told why they are refused.

mod polling;
mod requests;
