//! The tables of readings, money and logs, for SQLite and PostgreSQL.
//!
//! Money lives in postings, which are never changed; balances are their sums, kept beside them so that
//! the database itself can refuse a guarded account below zero.

use runtime::db::Migration;

/// The lock that writers of these tables take on PostgreSQL; on SQLite there is one writer anyway.
pub const LOCK: i64 = 3000;

macro_rules! append_only {
    (sqlite: $($table:literal),*) => {
        concat!($(
            "CREATE TRIGGER ", $table, "_no_update BEFORE UPDATE ON ", $table,
            " BEGIN SELECT RAISE(ABORT, '", $table, " is append-only'); END;\n",
            "CREATE TRIGGER ", $table, "_no_delete BEFORE DELETE ON ", $table,
            " BEGIN SELECT RAISE(ABORT, '", $table, " is append-only'); END;\n",
        )*)
    };
    (postgres: $($table:literal),*) => {
        concat!(
            "CREATE FUNCTION settle_append_only() RETURNS trigger LANGUAGE plpgsql AS ",
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;\n",
            append_only!(postgres triggers: $($table),*)
        )
    };
    (postgres triggers: $($table:literal),*) => {
        concat!($(
            "CREATE TRIGGER ", $table, "_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ",
            $table, " FOR EACH STATEMENT EXECUTE FUNCTION settle_append_only();\n",
        )*)
    };
}

/// The history of these tables.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 3001,
        description: "readings, money, logs",
        sqlite: include_str!("store/sqlite.sql"),
        postgres: include_str!("store/postgres.sql"),
    },
    Migration {
        version: 3002,
        description: "what is posted or logged stays",
        sqlite: append_only!(
            sqlite: "settle_postings", "settle_log_entries", "settle_log_nodes",
            "settle_clearings", "settle_checkpoints", "settle_key_records", "settle_orders",
            "settle_trades", "settle_runs", "settle_lines", "settle_readings", "settle_evidence"
        ),
        postgres: append_only!(
            postgres: "settle_postings", "settle_log_entries", "settle_log_nodes",
            "settle_clearings", "settle_checkpoints", "settle_key_records", "settle_orders",
            "settle_trades", "settle_runs", "settle_lines", "settle_readings", "settle_evidence"
        ),
    },
    Migration {
        version: 3003,
        description: "claim codes, handovers and revocations of keys",
        sqlite: concat!(
            include_str!("store/keys_sqlite.sql"),
            append_only!(
                sqlite: "settle_introductions", "settle_handovers", "settle_revocations"
            )
        ),
        postgres: concat!(
            include_str!("store/keys_postgres.sql"),
            append_only!(
                postgres triggers: "settle_introductions", "settle_handovers", "settle_revocations"
            )
        ),
    },
    Migration {
        version: 3010,
        description: "the largest network fee by zone that an interval's bids were told",
        sqlite: "ALTER TABLE settle_intervals ADD COLUMN zone_fee_max INTEGER",
        postgres: "ALTER TABLE settle_intervals ADD COLUMN zone_fee_max BIGINT",
    },
    Migration {
        version: 3030,
        description: "held-back income is guarded, and postings that no run made are found by owner",
        sqlite: GUARD_SQLITE,
        postgres: GUARD_POSTGRES,
    },
    Migration {
        version: 3040,
        description: "witnesses' signatures, and proofs of broken rules",
        sqlite: concat!(
            include_str!("store/witnesses_sqlite.sql"),
            append_only!(sqlite: "settle_cosignatures", "settle_proofs")
        ),
        postgres: concat!(
            include_str!("store/witnesses_postgres.sql"),
            append_only!(postgres triggers: "settle_cosignatures", "settle_proofs")
        ),
    },
    Migration {
        version: 3050,
        description: "terms of an interval, inputs of a run, what the utility supplied",
        sqlite: include_str!("store/terms_sqlite.sql"),
        postgres: include_str!("store/terms_postgres.sql"),
    },
    Migration {
        version: 3060,
        description: "charging sessions: what was promised, and what happened",
        sqlite: concat!(
            include_str!("store/charging_sqlite.sql"),
            append_only!(sqlite: "settle_charging", "settle_charging_events")
        ),
        postgres: concat!(
            include_str!("store/charging_postgres.sql"),
            append_only!(postgres triggers: "settle_charging", "settle_charging_events")
        ),
    },
    Migration {
        version: 3070,
        description: "points are found by whose they are, and counted without reading them",
        sqlite: POINTS_INDEXES,
        postgres: POINTS_INDEXES,
    },
    Migration {
        version: 3110,
        description: "what the last run of an interval came to, and what came since",
        sqlite: include_str!("store/last_run_sqlite.sql"),
        postgres: include_str!("store/last_run_postgres.sql"),
    },
    Migration {
        version: 3120,
        description: "the record of a run, its place in the ledger log, and what shows that books were set back",
        sqlite: concat!(
            include_str!("store/records_sqlite.sql"),
            append_only!(sqlite: "settle_set_back")
        ),
        postgres: concat!(
            include_str!("store/records_postgres.sql"),
            append_only!(postgres triggers: "settle_set_back")
        ),
    },
    Migration {
        version: 3130,
        description: "stake: which accounts are guarded, and which asset each counts",
        sqlite: STAKE_SQLITE,
        postgres: STAKE_POSTGRES,
    },
    Migration {
        version: 3131,
        description: "stake that was asked back, and tokens in and out by two operators",
        sqlite: concat!(
            include_str!("store/tokens_sqlite.sql"),
            append_only!(sqlite: "settle_token_requests", "settle_token_steps")
        ),
        postgres: concat!(
            include_str!("store/tokens_postgres.sql"),
            append_only!(postgres triggers: "settle_token_requests", "settle_token_steps")
        ),
    },
    Migration {
        version: 3160,
        description: "stations that buy their own energy; corrections and changes of sessions",
        sqlite: concat!(
            include_str!("store/station_sqlite.sql"),
            append_only!(sqlite: "settle_charging_advances", "settle_station_lines",
                "settle_charging_credits", "settle_charging_changes")
        ),
        postgres: concat!(
            include_str!("store/station_postgres.sql"),
            append_only!(postgres triggers: "settle_charging_advances", "settle_station_lines",
                "settle_charging_credits", "settle_charging_changes")
        ),
    },
    Migration {
        version: 3171,
        description: "what was passed through for a session's energy, for its station's month",
        sqlite: concat!(
            include_str!("store/profit_sqlite.sql"),
            append_only!(sqlite: "settle_charging_costs")
        ),
        postgres: concat!(
            include_str!("store/profit_postgres.sql"),
            append_only!(postgres triggers: "settle_charging_costs")
        ),
    },
    Migration {
        version: 3180,
        description: "charging sessions of which a reading came late",
        sqlite: include_str!("store/charging_late_sqlite.sql"),
        postgres: include_str!("store/charging_late_postgres.sql"),
    },
    Migration {
        version: 3181,
        description: "what chargers' own meters have signed",
        sqlite: concat!(
            include_str!("store/charger_records_sqlite.sql"),
            append_only!(sqlite: "settle_charger_records")
        ),
        postgres: concat!(
            include_str!("store/charger_records_postgres.sql"),
            append_only!(postgres triggers: "settle_charger_records")
        ),
    },
    Migration {
        version: 3182,
        description: "who bore a station's energy, who had a part in it, and sessions that were not paid",
        sqlite: concat!(
            include_str!("store/stations_past_sqlite.sql"),
            append_only!(sqlite: "settle_station_parties")
        ),
        postgres: concat!(
            include_str!("store/stations_past_postgres.sql"),
            append_only!(postgres triggers: "settle_station_parties")
        ),
    },
    Migration {
        version: 3200,
        description: "claim codes and revocations of participants",
        sqlite: concat!(
            include_str!("store/holders_sqlite.sql"),
            append_only!(sqlite: "settle_revocations")
        ),
        postgres: include_str!("store/holders_postgres.sql"),
    },
    Migration {
        version: 3210,
        description: "opening deposits in the ledger log; open holds are found without the others",
        sqlite: concat!(
            include_str!("store/openings_sqlite.sql"),
            append_only!(sqlite: "settle_openings")
        ),
        postgres: concat!(
            include_str!("store/openings_postgres.sql"),
            append_only!(postgres triggers: "settle_openings")
        ),
    },
    Migration {
        version: 3211,
        description: "how far the tables were checked against the logs",
        sqlite: CHECKED_SQLITE,
        postgres: CHECKED_POSTGRES,
    },
    Migration {
        version: 3220,
        description: "what gateways have signed of the ledger log",
        sqlite: include_str!("store/gateway_witnesses_sqlite.sql"),
        postgres: include_str!("store/gateway_witnesses_postgres.sql"),
    },
    Migration {
        version: 3221,
        description: "cases that were found, and where they stand in the ledger log",
        sqlite: concat!(
            include_str!("store/cases_sqlite.sql"),
            append_only!(sqlite: "settle_case_sources", "settle_case_entries")
        ),
        postgres: concat!(
            include_str!("store/cases_postgres.sql"),
            append_only!(postgres triggers: "settle_case_sources", "settle_case_entries")
        ),
    },
    Migration {
        version: 3222,
        description: "a holder's keys and their introductions are found without the others",
        sqlite: KEYS_INDEXES,
        postgres: KEYS_INDEXES,
    },
];

const CHECKED_SQLITE: &str = "CREATE TABLE settle_checked (
         log INTEGER PRIMARY KEY,
         size INTEGER NOT NULL,
         seal BLOB NOT NULL
     ) STRICT, WITHOUT ROWID;";
const CHECKED_POSTGRES: &str = "CREATE TABLE settle_checked (
         log BIGINT PRIMARY KEY,
         size BIGINT NOT NULL,
         seal BYTEA NOT NULL
     );";
const KEYS_INDEXES: &str = "CREATE INDEX settle_introductions_kid ON settle_introductions (kid);
     CREATE INDEX settle_keys_gateway ON settle_keys (gateway);
     CREATE INDEX settle_keys_participant ON settle_keys (participant);";
const POINTS_INDEXES: &str =
    "CREATE INDEX settle_points_owner ON settle_points (participant, role);
     CREATE INDEX settle_points_since ON settle_points (role, since_ms);";
const STAKE_SQLITE: &str = include_str!("store/stake_sqlite.sql");
const STAKE_POSTGRES: &str = include_str!("store/stake_postgres.sql");
const GUARD_SQLITE: &str = include_str!("store/guard_sqlite.sql");
const GUARD_POSTGRES: &str = include_str!("store/guard_postgres.sql");

#[cfg(test)]
mod tests {
    use super::*;
    use domain::posting::Chart;

    #[test]
    fn both_databases_have_the_same_tables() {
        let pairs = [
            (MIGRATIONS[0].sqlite, MIGRATIONS[0].postgres),
            (
                include_str!("store/keys_sqlite.sql"),
                include_str!("store/keys_postgres.sql"),
            ),
            (
                include_str!("store/witnesses_sqlite.sql"),
                include_str!("store/witnesses_postgres.sql"),
            ),
            (
                include_str!("store/terms_sqlite.sql"),
                include_str!("store/terms_postgres.sql"),
            ),
            (
                include_str!("store/cases_sqlite.sql"),
                include_str!("store/cases_postgres.sql"),
            ),
            (
                include_str!("store/gateway_witnesses_sqlite.sql"),
                include_str!("store/gateway_witnesses_postgres.sql"),
            ),
            (
                include_str!("store/charging_sqlite.sql"),
                include_str!("store/charging_postgres.sql"),
            ),
            (
                include_str!("store/charging_late_sqlite.sql"),
                include_str!("store/charging_late_postgres.sql"),
            ),
            (
                include_str!("store/charger_records_sqlite.sql"),
                include_str!("store/charger_records_postgres.sql"),
            ),
            (
                include_str!("store/last_run_sqlite.sql"),
                include_str!("store/last_run_postgres.sql"),
            ),
            (
                include_str!("store/records_sqlite.sql"),
                include_str!("store/records_postgres.sql"),
            ),
            (
                include_str!("store/tokens_sqlite.sql"),
                include_str!("store/tokens_postgres.sql"),
            ),
            (
                include_str!("store/openings_sqlite.sql"),
                include_str!("store/openings_postgres.sql"),
            ),
        ];
        for (sqlite, postgres) in pairs {
            let translated = sqlite
                .replace("INTEGER", "BIGINT")
                .replace("BLOB", "BYTEA")
                .replace(" STRICT, WITHOUT ROWID", "");
            assert_eq!(translated, postgres);
        }
    }

    #[test]
    fn the_database_guards_the_accounts_that_the_chart_guards() {
        let guarded: Vec<String> = (0..=u16::MAX)
            .filter_map(Chart::from_code)
            .filter(|chart| chart.never_below_zero())
            .map(|chart| chart.code().to_string())
            .collect();
        let check = format!("chart NOT IN ({})", guarded.join(", "));
        for sql in [STAKE_SQLITE, STAKE_POSTGRES] {
            assert!(sql.contains(&check), "{check}");
        }
    }
}
