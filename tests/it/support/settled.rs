//! When a destination is done.

use std::time::Duration;

use serde_json::Value;

use super::lab::Books;
use super::{Lab, eventually};

impl Lab {
    /// Where the stored cursor of `splunk` stands.
    async fn stored_cursor(&self) -> Value {
        let cursors = self.get("/v1/cursors").await.unwrap().body;
        let cursors: Value = serde_json::from_str(&cursors).unwrap();
        let splunk = cursors.as_array().unwrap().iter().find(|cursor| cursor["name"] == "splunk");
        splunk.map(|cursor| cursor["position"].clone()).unwrap_or_default()
    }

    /// Waits until `splunk` has settled everything that is in the log, and the store knows, and
    /// returns its books.
    pub(crate) async fn drained(&self, deadline: Duration) -> Books {
        eventually(deadline, "everything is settled", async || {
            let status = self.status().await;
            let books = &status["destinations"][0]["books"];
            books["pending"] == 0
                && books["accepted"] == status["log"]["messages"]
                && self.stored_cursor().await == serde_json::json!([status["log"]["end_offset"], 0])
        })
        .await;
        let books = self.books("splunk").await;
        assert_eq!(books.difference, 0, "{books:?}");
        let settled = books.acknowledged + books.filtered + books.skipped;
        assert_eq!(books.accepted + books.rewound, settled, "{books:?}");
        books
    }
}
