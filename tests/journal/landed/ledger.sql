-- The ledger that journal.sql belongs to; see there.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE vm_allocations (
    sid TEXT PRIMARY KEY,
    owner TEXT,
    plan TEXT,
    provisioner TEXT,
    vm_ref TEXT,
    vm_uid TEXT,
    status TEXT NOT NULL CHECK (status IN ('Active', 'Released')),
    created_at INTEGER,
    expires_at INTEGER,
    released_at INTEGER
) STRICT
;
INSERT INTO vm_allocations VALUES('released-1','customer-00','basic',NULL,'vm-released-1',NULL,'Released',1780272000,1796029200,1796126400);
INSERT INTO vm_allocations VALUES('released-2','customer-01','basic',NULL,'vm-released-2',NULL,'Released',1780272000,1796032800,1796126400);
INSERT INTO vm_allocations VALUES('released-3','customer-02','basic',NULL,'vm-released-3',NULL,'Released',1780272000,1796122800,1796126400);
INSERT INTO vm_allocations VALUES('returned','customer-03','basic',NULL,'vm-returned',NULL,'Active',1780272000,1796119200,NULL);
INSERT INTO vm_allocations VALUES('quarantined','customer-04','basic',NULL,'vm-quarantined',NULL,'Active',1780272000,1796133600,NULL);
INSERT INTO vm_allocations VALUES('held','customer-05','basic',NULL,'vm-held',NULL,'Active',1780272000,1796148000,NULL);
INSERT INTO vm_allocations VALUES('held-until','customer-06','basic',NULL,'vm-held-until',NULL,'Active',1780272000,1796148600,NULL);
INSERT INTO vm_allocations VALUES('unheld','customer-07','basic',NULL,'vm-unheld',NULL,'Active',1780272000,1796149200,NULL);
INSERT INTO vm_allocations VALUES('lapsed','customer-08','basic',NULL,'vm-lapsed',NULL,'Active',1780272000,1796149800,NULL);
INSERT INTO vm_allocations VALUES('conflict','customer-09','basic',NULL,'vm-conflict',NULL,'Active',1780272000,1798758000,NULL);
INSERT INTO vm_allocations VALUES('begun','customer-10','basic',NULL,'vm-begun',NULL,'Active',1780272000,1796194800,NULL);
INSERT INTO vm_allocations VALUES('due-1','customer-11','basic',NULL,'vm-due-1',NULL,'Active',1780272000,1796202060,NULL);
INSERT INTO vm_allocations VALUES('due-2','customer-12','basic',NULL,'vm-due-2',NULL,'Active',1780272000,1796202120,NULL);
INSERT INTO vm_allocations VALUES('due-3','customer-13','basic',NULL,'vm-due-3',NULL,'Active',1780272000,1796202180,NULL);
INSERT INTO vm_allocations VALUES('due-4','customer-14','basic',NULL,'vm-due-4',NULL,'Active',1780272000,1796202240,NULL);
INSERT INTO vm_allocations VALUES('due-5','customer-15','basic',NULL,'vm-due-5',NULL,'Active',1780272000,1796202300,NULL);
INSERT INTO vm_allocations VALUES('due-6','customer-16','basic',NULL,'vm-due-6',NULL,'Active',1780272000,1796202360,NULL);
INSERT INTO vm_allocations VALUES('later-1','customer-17','basic',NULL,'vm-later-1',NULL,'Active',1780272000,1799625600,NULL);
INSERT INTO vm_allocations VALUES('later-2','customer-18','basic',NULL,'vm-later-2',NULL,'Active',1780272000,1799712000,NULL);
INSERT INTO vm_allocations VALUES('later-3','customer-19','basic',NULL,'vm-later-3',NULL,'Active',1780272000,1799798400,NULL);
INSERT INTO vm_allocations VALUES('later-4','customer-20','basic',NULL,'vm-later-4',NULL,'Active',1780272000,1799884800,NULL);
INSERT INTO vm_allocations VALUES('later-5','customer-21','basic',NULL,'vm-later-5',NULL,'Active',1780272000,1799971200,NULL);
INSERT INTO vm_allocations VALUES('later-6','customer-22','basic',NULL,'vm-later-6',NULL,'Active',1780272000,1800057600,NULL);
INSERT INTO vm_allocations VALUES('later-7','customer-23','basic',NULL,'vm-later-7',NULL,'Active',1780272000,1800144000,NULL);
INSERT INTO vm_allocations VALUES('later-8','customer-24','basic',NULL,'vm-later-8',NULL,'Active',1780272000,1800230400,NULL);
INSERT INTO vm_allocations VALUES('later-9','customer-25','basic',NULL,'vm-later-9',NULL,'Active',1780272000,1800316800,NULL);
INSERT INTO vm_allocations VALUES('later-10','customer-26','basic',NULL,'vm-later-10',NULL,'Active',1780272000,1800403200,NULL);
INSERT INTO vm_allocations VALUES('forever','customer-27','internal',NULL,'vm-forever',NULL,'Active',1780272000,NULL,NULL);
CREATE INDEX vm_allocations_due ON vm_allocations (expires_at, sid) WHERE status <> 'Released';
COMMIT;
