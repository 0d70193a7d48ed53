//! The recordings that come with the crate; `data/NOTICES.md` names sources and licences.

macro_rules! bundle {
    ($($name:literal),+ $(,)?) => { &[$(($name, include_bytes!(concat!("../../data/", $name)))),+] };
}

pub(super) const FILES: &[(&str, &[u8])] = bundle![
    "daily/corporate_actions.csv",
    "daily/AAPL.csv.gz",
    "daily/AAPL_2019_2024_split_adjusted.csv.gz",
    "daily/AES.csv.gz",
    "daily/AIG.csv.gz",
    "daily/FB.csv.gz",
    "daily/GOOG.csv.gz",
    "daily/GORO.csv.gz",
    "daily/IBM.csv.gz",
    "daily/MSFT.csv.gz",
    "daily/ORCL.csv.gz",
    "daily/YHOO.csv.gz",
    "minute/MSFT_2016-04-15_2016-05-13_1min.csv.gz",
    "minute/SPY_2011-01_1min_extended_hours.csv.gz",
    "minute/SPY_2011-03_1min_extended_hours.csv.gz",
    "ticks/BTCUSD_bitstamp_2011-09_2012-05_trades.csv.gz",
];
