-- A journal of version 2, as the first landed program (0.1.0) left it; ledger.sql is its ledger.
--
-- Made by that program itself: its own `init`, ticks, `hold` and `unhold`, each started by faketime(1) at the instant
-- that the journal names, over a provisioner of kind `command` whose program hung, failed or answered as needed. Only
-- where it was made is not what it was: host, pid, actor, boot and ledger were replaced afterwards.
--
--   released-1, -2, -3  released by the first tick, on 1 December 2026 at 12:00
--   returned            released by it, too; its application made it live again, with the same expires_at
--   held, held-until    held without end, and until 31 January 2027
--   unheld, lapsed      a hold that was ended at 06:00 on 2 December, one that ended by itself at 09:00: in their grace
--   quarantined         failed in two ticks, with release.quarantine_after = 2
--   conflict            its tick was killed (SIGKILL) in the call, then the row was renewed, then a tick found that
--   begun               its tick was killed in the call; the row is still due
--   due-1 to due-6      due. The newest tick, on 2 December at 10:00, was refused (guard.max_releases = 5), and would
--                       have been confirmed until 3 December at 10:00 by: tick --once --confirm 6
PRAGMA application_id = 1634887020;
PRAGMA user_version = 2;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE IF NOT EXISTS "ticks" (
   "seq" INTEGER PRIMARY KEY,
   "tick" TEXT NOT NULL,
   "now" TEXT NOT NULL,
   "started_at" TEXT NOT NULL,
   "ends_by" TEXT NOT NULL,
   "finished_at" TEXT,
   "pid" INTEGER NOT NULL,
   "host" TEXT NOT NULL,
   "version" TEXT NOT NULL,
   "actor" TEXT NOT NULL,
   "boot_id" TEXT,
   "admitted" INTEGER NOT NULL,
   "status" TEXT,
   "exit_code" INTEGER,
   "report" TEXT,
   "confirmable" INTEGER
, kind TEXT NOT NULL DEFAULT 'tick', reason TEXT, ledger TEXT, boot_seconds REAL) STRICT;
INSERT INTO ticks VALUES(1,'20261201T120000Z-0cc81f','2026-12-01T12:00:00.228038Z','2026-12-01T12:00:00.228038Z','2026-12-01T12:45:00.228038Z','2026-12-01T12:00:00.342690Z',4001,'host-1','0.1.0','autorelease (uid 990)','6d0f2b5c8e914a73b1c2d3e4f5a60718',1,'success',0,'{"schema": "autorelease.tick/1", "tick": "20261201T120000Z-0cc81f", "now": "2026-12-01T12:00:00.228038Z", "started_at": "2026-12-01T12:00:00.228038Z", "finished_at": "2026-12-01T12:00:00.342690Z", "dry_run": false, "status": "success", "exit_code": 0, "stopped_by": null, "rows_examined": 28, "rows_invalid": 0, "rows_expired": 4, "rows_released": 4, "rows_already_released": 0, "rows_pending": 0, "rows_skipped": 0, "rows_failed": 0, "rows_quarantined": 0, "skipped": {"held": 0, "backoff": 0, "renewed": 0, "changed": 0, "resurrected": 0, "deferred": 0, "refused": 0, "dry_run": 0}, "oldest_overdue_seconds": 97200, "refused": [], "down": [], "errors": [], "invalid": [], "truncated": false}',NULL,'tick',NULL,'/var/lib/autorelease/allocations.db table vm_allocations',86400.228000000002795);
INSERT INTO ticks VALUES(2,'20261201T200000Z-aef4a8','2026-12-01T20:00:00.168086Z','2026-12-01T20:00:00.168086Z','2026-12-01T20:45:00.168086Z','2026-12-01T20:00:00.216766Z',4002,'host-1','0.1.0','autorelease (uid 990)','6d0f2b5c8e914a73b1c2d3e4f5a60718',1,'partial',3,'{"schema": "autorelease.tick/1", "tick": "20261201T200000Z-aef4a8", "now": "2026-12-01T20:00:00.168086Z", "started_at": "2026-12-01T20:00:00.168086Z", "finished_at": "2026-12-01T20:00:00.216766Z", "dry_run": false, "status": "partial", "exit_code": 3, "stopped_by": null, "rows_examined": 25, "rows_invalid": 0, "rows_expired": 6, "rows_released": 0, "rows_already_released": 0, "rows_pending": 0, "rows_skipped": 5, "rows_failed": 1, "rows_quarantined": 0, "skipped": {"held": 4, "backoff": 0, "renewed": 0, "changed": 0, "resurrected": 1, "deferred": 0, "refused": 0, "dry_run": 0}, "oldest_overdue_seconds": 36000, "refused": [], "down": [], "errors": [{"sid": "quarantined", "provisioner": "default", "code": "failed", "message": "the command failed (exit 1): the host that it stands on does not answer", "retryable": false, "attempts": 1, "next_attempt_at": "2026-12-01T20:59:06.527613Z"}], "invalid": [], "truncated": false}',NULL,'tick',NULL,'/var/lib/autorelease/allocations.db table vm_allocations',115200.16800000000511);
INSERT INTO ticks VALUES(3,'20261201T220000Z-3681a5','2026-12-01T22:00:00.232375Z','2026-12-01T22:00:00.232375Z','2026-12-01T22:45:00.232375Z','2026-12-01T22:00:00.299402Z',4003,'host-1','0.1.0','autorelease (uid 990)','6d0f2b5c8e914a73b1c2d3e4f5a60718',1,'partial',3,'{"schema": "autorelease.tick/1", "tick": "20261201T220000Z-3681a5", "now": "2026-12-01T22:00:00.232375Z", "started_at": "2026-12-01T22:00:00.232375Z", "finished_at": "2026-12-01T22:00:00.299402Z", "dry_run": false, "status": "partial", "exit_code": 3, "stopped_by": null, "rows_examined": 25, "rows_invalid": 0, "rows_expired": 6, "rows_released": 0, "rows_already_released": 0, "rows_pending": 0, "rows_skipped": 5, "rows_failed": 1, "rows_quarantined": 1, "skipped": {"held": 4, "backoff": 0, "renewed": 0, "changed": 0, "resurrected": 1, "deferred": 0, "refused": 0, "dry_run": 0}, "oldest_overdue_seconds": 43200, "refused": [], "down": [], "errors": [{"sid": "quarantined", "provisioner": "default", "code": "failed", "message": "the command failed (exit 1): the host that it stands on does not answer", "retryable": false, "attempts": 1, "next_attempt_at": "2026-12-02T21:51:44.155447Z"}], "invalid": [], "truncated": false}',NULL,'tick',NULL,'/var/lib/autorelease/allocations.db table vm_allocations',122400.2320000000036);
INSERT INTO ticks VALUES(4,'20261202T000000Z-54d931','2026-12-02T00:00:00.255974Z','2026-12-02T00:00:00.255974Z','2026-12-02T00:45:00.255974Z',NULL,4004,'host-1','0.1.0','autorelease (uid 990)','6d0f2b5c8e914a73b1c2d3e4f5a60718',1,'crashed',NULL,NULL,NULL,'tick',NULL,'/var/lib/autorelease/allocations.db table vm_allocations',129600.25599999999394);
INSERT INTO ticks VALUES(5,'20261202T010000Z-086a22','2026-12-02T01:00:00.198834Z','2026-12-02T01:00:00.198834Z','2026-12-02T01:45:00.198834Z','2026-12-02T01:00:00.238068Z',4005,'host-1','0.1.0','autorelease (uid 990)','6d0f2b5c8e914a73b1c2d3e4f5a60718',1,'partial',3,'{"schema": "autorelease.tick/1", "tick": "20261202T010000Z-086a22", "now": "2026-12-02T01:00:00.198834Z", "started_at": "2026-12-02T01:00:00.198834Z", "finished_at": "2026-12-02T01:00:00.238068Z", "dry_run": false, "status": "partial", "exit_code": 3, "stopped_by": null, "rows_examined": 25, "rows_invalid": 0, "rows_expired": 7, "rows_released": 0, "rows_already_released": 0, "rows_pending": 0, "rows_skipped": 6, "rows_failed": 1, "rows_quarantined": 1, "skipped": {"held": 4, "backoff": 1, "renewed": 0, "changed": 0, "resurrected": 1, "deferred": 0, "refused": 0, "dry_run": 0}, "oldest_overdue_seconds": 54000, "refused": [], "down": [], "errors": [{"sid": "conflict", "provisioner": "default", "code": "conflict", "message": "a release was begun at 2026-12-02 00:00:00Z, its end is unknown, and the row was renewed since: the VM may be gone while its owner pays", "retryable": false, "attempts": 0, "next_attempt_at": null}], "invalid": [], "truncated": false}',NULL,'tick',NULL,'/var/lib/autorelease/allocations.db table vm_allocations',133200.19899999999324);
INSERT INTO ticks VALUES(6,'20261202T080000Z-699b0c','2026-12-02T08:00:00.196801Z','2026-12-02T08:00:00.196801Z','2026-12-02T08:45:00.196801Z',NULL,4006,'host-1','0.1.0','autorelease (uid 990)','6d0f2b5c8e914a73b1c2d3e4f5a60718',1,'crashed',NULL,NULL,NULL,'tick',NULL,'/var/lib/autorelease/allocations.db table vm_allocations',158400.19699999998556);
INSERT INTO ticks VALUES(7,'20261202T100000Z-ee9d0c','2026-12-02T10:00:00.249263Z','2026-12-02T10:00:00.249263Z','2026-12-02T10:45:00.249263Z','2026-12-02T10:00:00.304947Z',4007,'host-1','0.1.0','autorelease (uid 990)','6d0f2b5c8e914a73b1c2d3e4f5a60718',0,'refused',7,'{"schema": "autorelease.tick/1", "tick": "20261202T100000Z-ee9d0c", "now": "2026-12-02T10:00:00.249263Z", "started_at": "2026-12-02T10:00:00.249263Z", "finished_at": "2026-12-02T10:00:00.304947Z", "dry_run": false, "status": "refused", "exit_code": 7, "stopped_by": null, "rows_examined": 25, "rows_invalid": 0, "rows_expired": 14, "rows_released": 0, "rows_already_released": 0, "rows_pending": 0, "rows_skipped": 13, "rows_failed": 1, "rows_quarantined": 1, "skipped": {"held": 4, "backoff": 1, "renewed": 0, "changed": 0, "resurrected": 1, "deferred": 0, "refused": 7, "dry_run": 0}, "oldest_overdue_seconds": 86400, "refused": [{"code": "max_releases", "message": "6 first releases are planned, the limit is 5"}], "down": [], "errors": [{"sid": "conflict", "provisioner": "default", "code": "conflict", "message": "a release was begun at 2026-12-02 00:00:00Z, its end is unknown, and the row was renewed since: the VM may be gone while its owner pays", "retryable": false, "attempts": 0, "next_attempt_at": null}], "invalid": [], "truncated": false}',6,'tick',NULL,'/var/lib/autorelease/allocations.db table vm_allocations',165600.2490000000107);
CREATE TABLE IF NOT EXISTS "events" (
   "id" INTEGER PRIMARY KEY,
   "at" TEXT NOT NULL,
   "tick" TEXT NOT NULL,
   "sid" TEXT NOT NULL,
   "event" TEXT NOT NULL,
   "outcome" TEXT,
   "reason" TEXT,
   "evidence" TEXT,
   "expires_at" TEXT,
   "error" TEXT,
   "duration_ms" INTEGER,
   "provisioner" TEXT NOT NULL,
   "answer" TEXT
) STRICT;
INSERT INTO events VALUES(1,'2026-12-01T12:00:00.311777Z','20261201T120000Z-0cc81f','released-1','intent',NULL,NULL,NULL,'2026-11-30T09:00:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(2,'2026-12-01T12:00:00.311798Z','20261201T120000Z-0cc81f','released-2','intent',NULL,NULL,NULL,'2026-11-30T10:00:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(3,'2026-12-01T12:00:00.311806Z','20261201T120000Z-0cc81f','returned','intent',NULL,NULL,NULL,'2026-12-01T10:00:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(4,'2026-12-01T12:00:00.311813Z','20261201T120000Z-0cc81f','released-3','intent',NULL,NULL,NULL,'2026-12-01T11:00:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(5,'2026-12-01T12:00:00.337008Z','20261201T120000Z-0cc81f','released-3','outcome','released',NULL,'exit 0','2026-12-01T11:00:00.000000Z',NULL,9,'default','released');
INSERT INTO events VALUES(6,'2026-12-01T12:00:00.340566Z','20261201T120000Z-0cc81f','released-2','outcome','released',NULL,'exit 0','2026-11-30T10:00:00.000000Z',NULL,25,'default','released');
INSERT INTO events VALUES(7,'2026-12-01T12:00:00.340915Z','20261201T120000Z-0cc81f','returned','outcome','released',NULL,'exit 0','2026-12-01T10:00:00.000000Z',NULL,24,'default','released');
INSERT INTO events VALUES(8,'2026-12-01T12:00:00.341101Z','20261201T120000Z-0cc81f','released-1','outcome','released',NULL,'exit 0','2026-11-30T09:00:00.000000Z',NULL,25,'default','released');
INSERT INTO events VALUES(9,'2026-12-01T13:00:00.227787Z','','held','hold',NULL,'a lawsuit, ticket 1001','by operator (uid 1000)',NULL,NULL,NULL,'',NULL);
INSERT INTO events VALUES(10,'2026-12-01T13:01:00.186579Z','','held-until','hold',NULL,'their bank is slow, ticket 1002','by operator (uid 1000), until 2027-01-31T00:00:00Z',NULL,NULL,NULL,'',NULL);
INSERT INTO events VALUES(11,'2026-12-01T13:02:00.194525Z','','unheld','hold',NULL,'payment is being looked into, ticket 1003','by operator (uid 1000)',NULL,NULL,NULL,'',NULL);
INSERT INTO events VALUES(12,'2026-12-01T13:03:00.176699Z','','lapsed','hold',NULL,'they asked for a day, ticket 1004','by operator (uid 1000), until 2026-12-02T09:00:00Z',NULL,NULL,NULL,'',NULL);
INSERT INTO events VALUES(13,'2026-12-01T20:00:00.207478Z','20261201T200000Z-aef4a8','returned','skip','skipped','resurrected',NULL,'2026-12-01T10:00:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(14,'2026-12-01T20:00:00.207508Z','20261201T200000Z-aef4a8','held','skip','skipped','held',NULL,'2026-12-01T18:00:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(15,'2026-12-01T20:00:00.207527Z','20261201T200000Z-aef4a8','held-until','skip','skipped','held',NULL,'2026-12-01T18:10:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(16,'2026-12-01T20:00:00.207545Z','20261201T200000Z-aef4a8','unheld','skip','skipped','held',NULL,'2026-12-01T18:20:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(17,'2026-12-01T20:00:00.207564Z','20261201T200000Z-aef4a8','lapsed','skip','skipped','held',NULL,'2026-12-01T18:30:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(18,'2026-12-01T20:00:00.211621Z','20261201T200000Z-aef4a8','quarantined','intent',NULL,NULL,NULL,'2026-12-01T14:00:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(19,'2026-12-01T20:00:00.214911Z','20261201T200000Z-aef4a8','quarantined','outcome','failed','failed',NULL,'2026-12-01T14:00:00.000000Z','the command failed (exit 1): the host that it stands on does not answer',2,'default',NULL);
INSERT INTO events VALUES(20,'2026-12-01T22:00:00.293793Z','20261201T220000Z-3681a5','quarantined','intent',NULL,NULL,NULL,'2026-12-01T14:00:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(21,'2026-12-01T22:00:00.297538Z','20261201T220000Z-3681a5','quarantined','outcome','failed','failed',NULL,'2026-12-01T14:00:00.000000Z','the command failed (exit 1): the host that it stands on does not answer',2,'default',NULL);
INSERT INTO events VALUES(22,'2026-12-02T00:00:00.308644Z','20261202T000000Z-54d931','quarantined','skip','skipped','backoff',NULL,'2026-12-01T14:00:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(23,'2026-12-02T00:00:00.314347Z','20261202T000000Z-54d931','conflict','intent',NULL,NULL,NULL,'2026-12-01T23:00:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(24,'2026-12-02T01:00:00.234872Z','20261202T010000Z-086a22','conflict','outcome','failed','conflict',NULL,'2026-12-01T23:00:00.000000Z','a release was begun at 2026-12-02 00:00:00Z, its end is unknown, and the row was renewed since: the VM may be gone while its owner pays',NULL,'default',NULL);
INSERT INTO events VALUES(25,'2026-12-02T06:00:00.234036Z','','unheld','unhold',NULL,NULL,'by operator (uid 1000)',NULL,NULL,NULL,'',NULL);
INSERT INTO events VALUES(26,'2026-12-02T08:00:00.246302Z','20261202T080000Z-699b0c','begun','intent',NULL,NULL,NULL,'2026-12-02T07:00:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(27,'2026-12-02T10:00:00.302863Z','20261202T100000Z-ee9d0c','due-1','skip','skipped','refused',NULL,'2026-12-02T09:01:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(28,'2026-12-02T10:00:00.302898Z','20261202T100000Z-ee9d0c','due-2','skip','skipped','refused',NULL,'2026-12-02T09:02:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(29,'2026-12-02T10:00:00.302920Z','20261202T100000Z-ee9d0c','due-3','skip','skipped','refused',NULL,'2026-12-02T09:03:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(30,'2026-12-02T10:00:00.302941Z','20261202T100000Z-ee9d0c','due-4','skip','skipped','refused',NULL,'2026-12-02T09:04:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(31,'2026-12-02T10:00:00.302968Z','20261202T100000Z-ee9d0c','due-5','skip','skipped','refused',NULL,'2026-12-02T09:05:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(32,'2026-12-02T10:00:00.302990Z','20261202T100000Z-ee9d0c','due-6','skip','skipped','refused',NULL,'2026-12-02T09:06:00.000000Z',NULL,NULL,'default',NULL);
INSERT INTO events VALUES(33,'2026-12-02T10:00:00.303013Z','20261202T100000Z-ee9d0c','begun','skip','skipped','refused',NULL,'2026-12-02T07:00:00.000000Z',NULL,NULL,'default',NULL);
CREATE TABLE IF NOT EXISTS "attempts" (
   "sid" TEXT NOT NULL,
   "expires_at" TEXT NOT NULL,
   "provisioner" TEXT NOT NULL,
   "vm_ref" TEXT NOT NULL,
   "outcome" TEXT,
   "skipped" TEXT,
   "intent_at" TEXT,
   "failed_ticks" INTEGER NOT NULL,
   "pending_ticks" INTEGER NOT NULL,
   "next_attempt_at" TEXT,
   "quarantined" INTEGER NOT NULL,
   "last_error" TEXT,
   PRIMARY KEY ("sid", "expires_at")
) STRICT;
INSERT INTO attempts VALUES('released-1','2026-11-30T09:00:00.000000Z','default','vm-released-1','released',NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('released-2','2026-11-30T10:00:00.000000Z','default','vm-released-2','released',NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('returned','2026-12-01T10:00:00.000000Z','default','vm-returned','released','resurrected',NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('released-3','2026-12-01T11:00:00.000000Z','default','vm-released-3','released',NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('held','2026-12-01T18:00:00.000000Z','default','vm-held',NULL,'held',NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('held-until','2026-12-01T18:10:00.000000Z','default','vm-held-until',NULL,'held',NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('unheld','2026-12-01T18:20:00.000000Z','default','vm-unheld',NULL,'held',NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('lapsed','2026-12-01T18:30:00.000000Z','default','vm-lapsed',NULL,'held',NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('quarantined','2026-12-01T14:00:00.000000Z','default','vm-quarantined','failed','backoff',NULL,2,0,'2026-12-02T21:51:44.155447Z',1,'the command failed (exit 1): the host that it stands on does not answer');
INSERT INTO attempts VALUES('conflict','2026-12-01T23:00:00.000000Z','default','vm-conflict','failed','conflict','2026-12-02T00:00:00.314347Z',0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('begun','2026-12-02T07:00:00.000000Z','default','vm-begun',NULL,'refused','2026-12-02T08:00:00.246302Z',0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('due-1','2026-12-02T09:01:00.000000Z','default','vm-due-1',NULL,'refused',NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('due-2','2026-12-02T09:02:00.000000Z','default','vm-due-2',NULL,'refused',NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('due-3','2026-12-02T09:03:00.000000Z','default','vm-due-3',NULL,'refused',NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('due-4','2026-12-02T09:04:00.000000Z','default','vm-due-4',NULL,'refused',NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('due-5','2026-12-02T09:05:00.000000Z','default','vm-due-5',NULL,'refused',NULL,0,0,NULL,0,NULL);
INSERT INTO attempts VALUES('due-6','2026-12-02T09:06:00.000000Z','default','vm-due-6',NULL,'refused',NULL,0,0,NULL,0,NULL);
CREATE TABLE IF NOT EXISTS "holds" (
   "id" INTEGER PRIMARY KEY,
   "sid" TEXT NOT NULL,
   "held_at" TEXT NOT NULL,
   "until" TEXT,
   "reason" TEXT NOT NULL,
   "actor" TEXT NOT NULL,
   "ended_at" TEXT,
   "ended_by" TEXT
) STRICT;
INSERT INTO holds VALUES(1,'held','2026-12-01T13:00:00.227787Z',NULL,'a lawsuit, ticket 1001','operator (uid 1000)',NULL,NULL);
INSERT INTO holds VALUES(2,'held-until','2026-12-01T13:01:00.186579Z','2027-01-31T00:00:00.000000Z','their bank is slow, ticket 1002','operator (uid 1000)',NULL,NULL);
INSERT INTO holds VALUES(3,'unheld','2026-12-01T13:02:00.194525Z',NULL,'payment is being looked into, ticket 1003','operator (uid 1000)','2026-12-02T06:00:00.234036Z','operator (uid 1000)');
INSERT INTO holds VALUES(4,'lapsed','2026-12-01T13:03:00.176699Z','2026-12-02T09:00:00.000000Z','they asked for a day, ticket 1004','operator (uid 1000)',NULL,NULL);
CREATE UNIQUE INDEX "idx_ticks_tick"
    ON "ticks" ("tick");
CREATE INDEX "idx_events_sid"
    ON "events" ("sid");
CREATE INDEX "idx_events_tick"
    ON "events" ("tick");
CREATE INDEX answers ON events (provisioner, id) WHERE answer IS NOT NULL;
CREATE INDEX open_intents ON attempts (intent_at, sid) WHERE intent_at IS NOT NULL;
CREATE INDEX "idx_holds_sid"
    ON "holds" ("sid");
CREATE INDEX releases ON events (id, sid, expires_at) WHERE outcome IN ('released', 'already_released');
COMMIT;
