/*
 * One target, N clients, one object lock: announce, gate, prepare, commit, tell, hand over, come back.
 *
 * Names follow UpgradeTarget and UpgradeClient; Model.md in UpgradeCore's documentation maps one to
 * the other. Every step is one d_step: a machine takes one event and does what follows from it.
 * The wire is a bag with one place for each kind of message and client: whatever is under way may be
 * overtaken by anything else. A lost connection takes all that is under way with it.
 *
 * What a run may contain is set by -D: N, OPS, UPGRADES, CRASHES, LOSSES, ABORTS, DEADLINES,
 * EVICTIONS (after a crash), EXPIRIES (of what is reserved), PLAIN, CACHED.
 * KEEP: the cache policy is `keep`, otherwise `flush`.
 * WITHOUT_...: leaves one rule of the protocol out; `check --mutations` shows that this is found.
 */
#ifndef N
#define N 2
#endif
#ifndef OPS
#define OPS 1
#endif
#ifndef UPGRADES
#define UPGRADES 1
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
#ifndef ABORTS
#define ABORTS 0
#endif
#ifndef DEADLINES
#define DEADLINES 0
#endif
#ifndef EVICTIONS
#define EVICTIONS 0
#endif
#ifndef EXPIRIES
#define EXPIRIES 0
#endif
/* Bit c: client c is without the feature, and synchronous while an upgrade is in hand. */
#ifndef PLAIN
#define PLAIN 0
#endif
#define HAS_FEATURE(c) (!((PLAIN >> (c)) & 1))
/* Bit k-1: the k-th operation dirties the cache under the lock; otherwise it is sent at once. */
#ifndef CACHED
#define CACHED 1
#endif
#define IS_CACHED(k) ((CACHED >> ((k) - 1)) & 1)

/* UpgradeTarget.State; announced and gathering differ for an operator only. */
#define DOWN       0
#define RECOVERING 1
#define SERVING    2
#define ANNOUNCED  3
#define COMMITTING 4
#define SEALED     5
#define COMMITTED  6

/* UpgradeClient.State */
#define DISCONNECTED 0
#define CONNECTING   1
#define REPLAYING    2
#define OPEN         3
#define CLOSING      4
#define PREPARED     5
#define TOLD         6

/* UpgradeTarget.Standing */
#define VACANT  0
#define GRANTED 1
#define WAITING 2
#define LEFT    3
#define SYNCHRONOUS 4

/* ConnectReply.Mode */
#define FRESH    0
#define SAME     1
#define CLEAN    2
#define RECOVER  3

/* The client's half of the object lock. */
#define NONE    0
#define ASKED   1
#define QUEUED  2
#define HELD    3
#define CALLED  4

mtype = { none, invariant_A, invariant_B, lost_update, executed_twice, two_holders, record_true,
          told_too_early, gate_stays_shut, told_is_undone,
          shut_for_nothing };

/* The property that broke, by name. */
mtype broken = none;

/* The target. */
byte state = SERVING;
byte instance = 1;
byte epoch = 0;             /* the newest; never used again */
byte base = 0;              /* epochs up to here are of earlier instances */
byte standing[N];
byte grant_epoch[N];        /* receipts up to here are void */
byte memory[N];             /* updates executed, as this instance knows it */
bit held[N];                /* the reply waits for the commit */
bit awaited[N];             /* has not replayed yet */
bit clean_start;
byte holder;                /* of the object lock: client + 1 */
bit reserved;               /* by the record, not claimed yet */
bit queue[N];               /* for the object lock */
bit blocked;                /* the holder was called back */

/* The disk. */
byte disk[N];
bit slot[N];                /* the client's row */
byte writer = 1;            /* the last instance that changed anything */
byte record = 0;            /* 0, or the instance whose clean record stands there */
byte record_holder;
bit record_entry[N];        /* whom the record that this instance started from names */

/* The clients. */
byte client[N];
byte client_instance[N];
byte gate_epoch[N];
byte seen[N];
byte ended[N];
byte begun[N];
byte acked[N];
byte kept[N];               /* the replay list is kept+1 ... acked */
bit dirty[N];
bit refused[N];             /* at the gate, as a value */
byte early[N];
byte lock_state[N];
bit cancelling[N];          /* its cancel is not answered */
bit lapsed[N];              /* its lease is over: it will be told */
bit evicted[N];             /* what it had is lost, and it was told so */
byte admission[N];          /* what the last reply to a connect said */
byte admission_epoch[N];
bit replays[N];             /* updates are replayed: after a crash */

/* The wire: client to target. */
bit m_connect[N];
bit m_update[N];
byte m_replay[N];
byte m_receipt[N];
bit m_enqueue[N];
bit m_cancel[N];
bit m_lock_replay[N];
bit m_done[N];
/* Target to client. */
bit m_connected[N];
bit m_full[N];
byte m_mode[N];
byte m_admission[N];
byte m_admission_epoch[N];
bit m_reply[N];
byte m_refusal[N];          /* epoch + 1 */
byte m_replayed[N];
byte m_notice[N];
byte m_grant[N];
byte m_commit[N];
bit m_lock_granted[N];
bit m_lock_queued[N];
bit m_callback[N];

/* What may still happen. */
byte upgrades = UPGRADES;
byte crashes = CRASHES;
byte losses = LOSSES;
byte aborts = ABORTS;
byte deadlines = DEADLINES;
byte evictions = EVICTIONS;
byte expiries = EXPIRIES;

#define MUST(name, condition) \
    if :: (condition) :: else -> broken = name; printf("VIOLATED: %e\n", name) fi; \
    assert(broken == none)

#define IN_FLIGHT(c) (begun[c] > acked[c] && !dirty[c] && !refused[c])
#define HOLDS(c) (lock_state[c] >= HELD && !lapsed[c])
#define HERE(c) (client[c] >= OPEN && client_instance[c] == instance)
#define EXCLUSIVE (state >= COMMITTING)
#define EX_QUEUED (state >= ANNOUNCED)
#ifdef WITHOUT_SUSPENSION
#define IS_SUSPENDED 0
#else
#define IS_SUSPENDED EX_QUEUED
#endif

/* Nothing more is in the way of the receipt. A waiting lock is not a request in flight. */
#ifdef KEEP
#define IS_TO_FLUSH(c) (lock_state[c] == CALLED)
#define IS_FLUSHED(c) (!(dirty[c] && lock_state[c] == CALLED))
#else
#define IS_TO_FLUSH(c) 1
#define IS_FLUSHED(c) (!dirty[c])
#endif
#ifdef WITHOUT_RECEIPT_WAITS
#define IS_DRAINED(c) 1
#else
#define IS_DRAINED(c) (!IN_FLIGHT(c) && IS_FLUSHED(c) && lock_state[c] != ASKED \
    && lock_state[c] != CALLED && !cancelling[c])
#endif

/* Invariant B: EX is granted only while every client is prepared, or left behind and fenced. */
#define B_HOLDS(c) (!(EXCLUSIVE && HERE(c) && standing[c] != VACANT && HAS_FEATURE(c) \
    && (standing[c] != LEFT && (client[c] == OPEN || (client[c] != TOLD && standing[c] == GRANTED)))))
#define B_RECEIPT_HOLDS(c) (!(EXCLUSIVE && HERE(c) && standing[c] == WAITING && IN_FLIGHT(c)))
/* A gate is shut only for an upgrade that is not over, as far as the client can know. */
#define TIMELY_HOLDS(c) (!((client[c] == CLOSING || client[c] == PREPARED) && gate_epoch[c] <= ended[c]))
/* A purged update is on disk: the client could never send it again. */
#define LOST_HOLDS(c) (kept[c] <= disk[c] || evicted[c])
/* A record that the next start would believe knows every acknowledged update and every lock. */
#define RECORD_HOLDS(c) (!(record > 0 && record == writer && state != RECOVERING \
    && (acked[c] > disk[c] && slot[c] && !evicted[c] || \
        (HOLDS(c) && record_holder != c + 1))))

inline check() {
    i = 0;
    do
    :: i < N ->
        MUST(invariant_B, B_HOLDS(i));
        MUST(invariant_B, B_RECEIPT_HOLDS(i));
        MUST(lost_update, LOST_HOLDS(i));
        MUST(shut_for_nothing, TIMELY_HOLDS(i));
        MUST(record_true, RECORD_HOLDS(i));
        j = i + 1;
        do
        :: j < N -> MUST(two_holders, !(HOLDS(i) && HOLDS(j))); j++
        :: else -> break
        od;
        i++
    :: else -> break
    od;
    i = 0; j = 0
}

/* Whatever is under way between the target and c is gone. */
inline drop_wire(c) {
    m_connect[c] = 0; m_update[c] = 0; m_replay[c] = 0; m_receipt[c] = 0; m_enqueue[c] = 0;
    m_cancel[c] = 0; m_lock_replay[c] = 0; m_done[c] = 0;
    m_connected[c] = 0; m_full[c] = 0; m_mode[c] = 0; m_admission[c] = 0; m_admission_epoch[c] = 0;
    m_reply[c] = 0; m_refusal[c] = 0; m_replayed[c] = 0; m_notice[c] = 0; m_grant[c] = 0;
    m_commit[c] = 0; m_lock_granted[c] = 0; m_lock_queued[c] = 0; m_callback[c] = 0
}

inline lose_connection(c) {
    drop_wire(c);
    client[c] = DISCONNECTED; gate_epoch[c] = 0; early[c] = 0; replays[c] = 0;
    admission[c] = 0; admission_epoch[c] = 0
}

/* The record is withdrawn, on disk, before what would contradict it is promised. */
inline withdraw() {
    if
    :: writer != instance ->
        writer = instance;
#ifdef WITHOUT_WITHDRAWAL
        if :: record > 0 -> record = instance :: else fi
#else
        record = 0; record_holder = 0
#endif
    :: else
    fi
}

inline commit_all() {
    i = 0;
    do
    :: i < N ->
        disk[i] = memory[i];
        if :: held[i] -> held[i] = 0; m_reply[i] = (HERE(i) || client[i] == REPLAYING) :: else fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* The holder is asked for the lock, where somebody waits and nobody may be left in peace. */
inline call_back() {
    if
    :: holder > 0 && !reserved && !blocked && !IS_SUSPENDED ->
        i = 0;
        do
        :: i < N && queue[i] -> blocked = 1; m_callback[holder - 1] = 1; break
        :: i < N && !queue[i] -> i++
        :: i >= N -> break
        od;
        i = 0
    :: else
    fi
}

/* The lock is free: the first who waits has it. */
inline serve_queue() {
    if
    :: holder == 0 ->
        i = 0;
        do
        :: i < N && queue[i] ->
            queue[i] = 0; holder = i + 1; blocked = 0; reserved = 0; m_lock_granted[i] = 1;
            break
        :: i < N && !queue[i] -> i++
        :: i >= N -> break
        od;
        i = 0
    :: else
    fi;
    call_back()
}

/* What a client does when its import is FULL again: UpgradeClient.recover. */
inline become_full(c) {
    if
    :: early[c] > 0 && (early[c] <= ended[c] || early[c] <= seen[c] || early[c] <= admission_epoch[c]) ->
        early[c] = 0
    :: else
    fi;
    if
    :: early[c] > 0 ->
        seen[c] = early[c]; gate_epoch[c] = early[c]; client[c] = CLOSING
    :: else ->
        if
        :: admission[c] == 3 -> client[c] = TOLD; gate_epoch[c] = admission_epoch[c]
        :: admission[c] != 3 && (admission[c] == 0 || admission_epoch[c] <= ended[c]) ->
            client[c] = OPEN; gate_epoch[c] = 0
        :: admission[c] == 1 && admission_epoch[c] > ended[c] ->
            client[c] = CLOSING; gate_epoch[c] = admission_epoch[c]
        :: admission[c] == 2 && admission_epoch[c] > ended[c] ->
            client[c] = PREPARED; gate_epoch[c] = admission_epoch[c]
        fi;
        if :: gate_epoch[c] > seen[c] -> seen[c] = gate_epoch[c] :: else fi
    fi;
    early[c] = 0; admission[c] = 0; admission_epoch[c] = 0; replays[c] = 0;
    /* What never got a reply is sent again. */
    if :: IN_FLIGHT(c) -> m_update[c] = 1 :: else fi;
    if :: lock_state[c] == ASKED -> m_enqueue[c] = 1 :: else fi;
    if :: cancelling[c] -> m_cancel[c] = 1 :: else fi;
    printf("client %d: full again, state %d for upgrade %d\n", c, client[c], gate_epoch[c])
}

/* The target's half: a client's message arrives. */
#define ARRIVALS(c) \
:: d_step { m_connect[c] && (state > RECOVERING || (state == RECOVERING && awaited[c])) -> \
    m_connect[c] = 0; \
    printf("target %d: client %d connects in state %d, it was %d\n", instance, c, state, standing[c]); \
    if \
    :: state == RECOVERING -> \
        m_mode[c] = RECOVER; standing[c] = (HAS_FEATURE(c) -> GRANTED : SYNCHRONOUS) \
    :: state > RECOVERING && standing[c] != VACANT -> \
        m_mode[c] = (awaited[c] -> CLEAN : SAME); RECONNECT(c) \
    :: state > RECOVERING && standing[c] == VACANT -> \
        if \
        :: clean_start && RECORD_KNOWS(c) -> m_mode[c] = CLEAN; awaited[c] = 1 \
        :: else -> m_mode[c] = FRESH \
        fi; \
        if \
        :: !HAS_FEATURE(c) -> standing[c] = SYNCHRONOUS \
        :: HAS_FEATURE(c) && EX_QUEUED -> standing[c] = WAITING \
        :: HAS_FEATURE(c) && !EX_QUEUED -> standing[c] = GRANTED \
        fi; \
        if \
        :: m_mode[c] == FRESH && (acked[c] > disk[c] || begun[c] > acked[c] || lock_state[c] >= QUEUED) -> \
            evicted[c] = 1 \
        :: else \
        fi; \
        if \
        :: m_mode[c] == FRESH && state < SEALED -> \
            slot[c] = 1; memory[c] = acked[c]; disk[c] = acked[c]; withdraw() \
        :: else \
        fi \
    fi; \
    m_connected[c] = 1; \
    if \
    :: standing[c] == SYNCHRONOUS -> m_admission[c] = 0; m_admission_epoch[c] = 0 \
    :: state == COMMITTED && HAS_FEATURE(c) && standing[c] != GRANTED -> m_admission[c] = 3; m_admission_epoch[c] = epoch \
    :: state != COMMITTED && EX_QUEUED && HAS_FEATURE(c) && standing[c] == GRANTED -> \
        m_admission[c] = 1; m_admission_epoch[c] = epoch \
    :: state != COMMITTED && EX_QUEUED && HAS_FEATURE(c) && standing[c] != GRANTED -> \
        m_admission[c] = 2; m_admission_epoch[c] = epoch \
    :: else -> m_admission[c] = 0; m_admission_epoch[c] = 0 \
    fi; \
    /* Callbacks that a lost connection took with it are repeated. */ \
    if \
    :: m_mode[c] != FRESH && holder == c + 1 && !reserved && lock_state[c] == QUEUED -> m_lock_granted[c] = 1 \
    :: else \
    fi; \
    if \
    :: m_mode[c] != FRESH && holder == c + 1 && blocked && !reserved -> m_callback[c] = 1 \
    :: else \
    fi; \
    check() } \
:: d_step { m_update[c] && state > RECOVERING && !IS_LEFT(c) -> \
    m_update[c] = 0; \
    printf("target %d: update %d of client %d in state %d\n", instance, acked[c] + 1, c, state); \
    if \
    :: memory[c] > acked[c] && !FORGETS && !held[c] -> m_reply[c] = 1 \
    :: memory[c] > acked[c] && !FORGETS && held[c] \
    :: (memory[c] <= acked[c] || FORGETS) && MAY_EXECUTE(c) -> \
        MUST(executed_twice, memory[c] == acked[c]); \
        MUST(invariant_A, standing[c] == GRANTED || standing[c] == SYNCHRONOUS || (IS_CACHED(acked[c] + 1) && standing[c] == WAITING)); \
        memory[c] = acked[c] + 1; \
        if \
        :: COMMITS_FIRST(c) -> held[c] = 1 \
        :: else -> m_reply[c] = 1 \
        fi \
    :: (memory[c] <= acked[c] || FORGETS) && !MAY_EXECUTE(c) && state < SEALED && standing[c] == WAITING -> \
        m_refusal[c] = epoch + 1 \
    :: else \
    fi; \
    check() } \
:: d_step { m_replay[c] > 0 && state == RECOVERING -> \
    printf("target %d: replay of update %d of client %d\n", instance, m_replay[c], c); \
    if \
    :: memory[c] < m_replay[c] -> \
        MUST(lost_update, memory[c] + 1 == m_replay[c]); \
        memory[c] = m_replay[c] \
    :: else \
    fi; \
    m_replayed[c] = m_replay[c]; m_replay[c] = 0; \
    check() } \
:: d_step { m_receipt[c] > 0 && state > RECOVERING -> \
    printf("target %d: receipt of client %d for upgrade %d in state %d\n", instance, c, m_receipt[c], state); \
    if \
    :: state == ANNOUNCED && standing[c] == GRANTED && IS_VALID_RECEIPT(c) -> standing[c] = WAITING \
    :: state == SERVING -> m_grant[c] = epoch \
    :: else \
    fi; \
    m_receipt[c] = 0; \
    check() } \
:: d_step { m_enqueue[c] && state > RECOVERING && MAY_LOCK -> \
    m_enqueue[c] = 0; \
    printf("target %d: client %d asks for the lock, holder %d\n", instance, c, holder); \
    if \
    :: holder == c + 1 && !reserved -> m_lock_granted[c] = 1 \
    :: else -> \
        withdraw(); \
        if \
        :: holder == 0 -> holder = c + 1; blocked = 0; reserved = 0; m_lock_granted[c] = 1 \
        :: else -> queue[c] = 1; ANSWER_QUEUED(c) \
        fi; \
        call_back() \
    fi; \
    check() } \
:: d_step { m_cancel[c] && state > RECOVERING && MAY_LOCK -> \
    m_cancel[c] = 0; cancelling[c] = 0; \
    printf("target %d: client %d gives the lock back\n", instance, c); \
    if \
    :: holder == c + 1 && !reserved -> holder = 0; blocked = 0; serve_queue() \
    :: else \
    fi; \
    check() } \
:: d_step { m_lock_replay[c] && state >= RECOVERING && MAY_LOCK -> \
    m_lock_replay[c] = 0; \
    printf("target %d: client %d tells of its lock (%d), holder %d, reserved %d\n", \
        instance, c, lock_state[c], holder, reserved); \
    if \
    :: lock_state[c] >= HELD && !lapsed[c] -> \
        if \
        :: holder == 0 && state == RECOVERING -> holder = c + 1; blocked = 0; reserved = 0; m_lock_granted[c] = 1 \
        :: holder == c + 1 -> reserved = 0; m_lock_granted[c] = 1; call_back() \
        :: else -> MUST(told_is_undone, 0) \
        fi \
    :: lock_state[c] >= HELD && lapsed[c] -> m_refusal[c] = 255 \
    :: lock_state[c] == QUEUED -> \
        if \
        :: holder == c + 1 -> reserved = 0; m_lock_granted[c] = 1; call_back() \
        :: holder != c + 1 -> \
            queue[c] = 1; m_lock_queued[c] = 1; \
            if :: state > RECOVERING -> withdraw(); serve_queue() :: else fi \
        fi \
    :: else \
    fi; \
    check() } \
:: d_step { m_done[c] && state >= RECOVERING -> \
    m_done[c] = 0; awaited[c] = 0; m_full[c] = 1; \
    printf("target %d: client %d has replayed\n", instance, c); \
    if \
    :: state > RECOVERING && holder == c + 1 && reserved && MAY_LOCK -> holder = 0; reserved = 0; blocked = 0; serve_queue() \
    :: else \
    fi; \
    finish_recovery(); \
    check() }

inline finish_recovery() {
    if
    :: state == RECOVERING ->
        i = 0;
        do
        :: i < N && !awaited[i] -> i++
        :: i < N && awaited[i] -> break
        :: i >= N -> break
        od;
        if
        :: i >= N ->
            i = 0;
            do
            :: i < N -> MUST(lost_update, memory[i] >= acked[i] || !slot[i] || evicted[i]); i++
            :: else -> break
            od;
            state = SERVING;
            printf("target %d: recovered, serving\n", instance);
            serve_queue()
        :: else
        fi;
        i = 0
    :: else
    fi
}

#ifdef WITHOUT_RECONNECT_KEEPS_ITS_PLACE
#define RECONNECT(c) if :: state == ANNOUNCED && standing[c] == GRANTED -> standing[c] = WAITING :: else fi
#else
#define RECONNECT(c) skip
#endif
#ifdef WITHOUT_OWN_ENTRY
#define RECORD_KNOWS(c) (client_instance[c] > 0)
#else
#define RECORD_KNOWS(c) (slot[c] && record_entry[c])
#endif
#ifdef WITHOUT_REPLY_DATA
#define FORGETS 1
#else
#define FORGETS 0
#endif
/* Write-back is of the flush class: it passes the gate. */
#define MAY_BY_LOCK(c) (standing[c] == GRANTED || standing[c] == SYNCHRONOUS \
    || (standing[c] == WAITING && IS_CACHED(acked[c] + 1)))
/* Neither executed nor answered: it stays on the wire, as it would be sent again, until the next
 * instance or until the upgrade is given up. */
#ifdef WITHOUT_TARGET_CHECK
#define IS_LEFT(c) 0
#elif defined(WITHOUT_SEAL) || defined(WITHOUT_FENCE)
#define IS_LEFT(c) (!(MAY_EXECUTE(c)) && memory[c] <= acked[c])
#else
#define IS_LEFT(c) (memory[c] <= acked[c] && (state >= SEALED || standing[c] == LEFT))
#endif
#ifdef WITHOUT_TARGET_CHECK
#define MAY_EXECUTE(c) 1
#else
#ifdef WITHOUT_FENCE
#define MAY_EXECUTE(c) (state < SEALED && (standing[c] == LEFT || MAY_BY_LOCK(c)))
#else
#ifdef WITHOUT_SEAL
#define MAY_EXECUTE(c) MAY_BY_LOCK(c)
#else
#define MAY_EXECUTE(c) (state < SEALED && MAY_BY_LOCK(c))
#endif
#endif
#endif
#ifdef WITHOUT_TARGET_CHECK
#define COMMITS_FIRST(c) 0
#else
#ifdef WITHOUT_WITHDRAWAL_FIRST
#define COMMITS_FIRST(c) (state == COMMITTING || \
    (state >= ANNOUNCED && state < SEALED && standing[c] == SYNCHRONOUS))
#else
#define COMMITS_FIRST(c) (state == COMMITTING || writer != instance || \
    (state >= ANNOUNCED && state < SEALED && standing[c] == SYNCHRONOUS))
#endif
#endif
#ifdef WITHOUT_GRANT_EPOCH
#define IS_VALID_RECEIPT(c) 1
#else
#define IS_VALID_RECEIPT(c) (m_receipt[c] > grant_epoch[c])
#endif
#ifdef WITHOUT_LOCK_SEAL
#define MAY_LOCK 1
#else
#define MAY_LOCK (state < SEALED)
#endif
#ifdef WITHOUT_SUSPENSION
#define ANSWER_QUEUED(c) skip
#else
#define ANSWER_QUEUED(c) m_lock_queued[c] = 1
#endif

#ifdef WITHOUT_NEWS
#define IS_NEWS(c) 1
#else
#define IS_NEWS(c) (m_notice[c] > seen[c] && m_notice[c] > ended[c])
#endif
#ifdef WITHOUT_EARLY_NOTICE
#define REMEMBERS_EARLY 0
#else
#define REMEMBERS_EARLY 1
#endif
#ifdef WITHOUT_GRANT_NAMES
#define OPENS(c) 1
#else
#define OPENS(c) (m_grant[c] >= gate_epoch[c])
#endif

proctype Client(byte c) {
    byte i = 0, j = 0;
end_client:
    do
    ARRIVALS(c)

    /* The client's half. */
    :: d_step { client[c] == DISCONNECTED && state > DOWN ->
        client[c] = CONNECTING; m_connect[c] = 1;
        printf("client %d: connects\n", c); check() }
    :: d_step { m_connected[c] && client[c] == CONNECTING ->
        m_connected[c] = 0;
        printf("client %d: connected, mode %d, admission %d for %d\n", c, m_mode[c], m_admission[c], m_admission_epoch[c]);
        if
        :: client_instance[c] != instance ->
            client_instance[c] = instance; cancelling[c] = 0;
            if :: base > ended[c] -> ended[c] = base :: else fi
        :: else
        fi;
        admission[c] = m_admission[c]; admission_epoch[c] = m_admission_epoch[c];
        if
        :: m_mode[c] == CLEAN -> kept[c] = acked[c]
        :: m_mode[c] == FRESH && evicted[c] -> kept[c] = acked[c]; begun[c] = acked[c]; dirty[c] = 0; refused[c] = 0
        :: m_mode[c] == RECOVER -> replays[c] = 1;
            if :: kept[c] < acked[c] && kept[c] < disk[c] ->
                kept[c] = (acked[c] < disk[c] -> acked[c] : disk[c])
            :: else fi
        :: else
        fi;
        /* Evicted: its locks are gone, and it is told. */
        if
        :: m_mode[c] == FRESH && lock_state[c] >= QUEUED ->
            lock_state[c] = NONE; lapsed[c] = 0
        :: else
        fi;
        if
        :: admission[c] == 3 -> kept[c] = acked[c]
        :: else
        fi;
        if
        :: m_mode[c] == SAME || m_mode[c] == FRESH -> become_full(c)
        :: else ->
            client[c] = REPLAYING;
            if
            :: replays[c] && kept[c] < acked[c] -> m_replay[c] = kept[c] + 1
            :: !(replays[c] && kept[c] < acked[c]) && lock_state[c] >= QUEUED -> m_lock_replay[c] = 1
            :: else -> m_done[c] = 1
            fi
        fi;
        m_mode[c] = 0; m_admission[c] = 0; m_admission_epoch[c] = 0;
        check() }
    :: d_step { m_replayed[c] > 0 && client[c] == REPLAYING ->
        if
        :: m_replayed[c] < acked[c] -> m_replay[c] = m_replayed[c] + 1
        :: m_replayed[c] >= acked[c] && lock_state[c] >= QUEUED -> m_lock_replay[c] = 1
        :: else -> m_done[c] = 1
        fi;
        m_replayed[c] = 0; check() }
    :: d_step { client[c] == REPLAYING && (m_lock_granted[c] || m_lock_queued[c] || m_refusal[c] == 255) ->
        printf("client %d: its lock is told\n", c);
        if
        :: m_lock_granted[c] && lock_state[c] == QUEUED -> lock_state[c] = HELD
        :: m_refusal[c] == 255 ->
            lock_state[c] = NONE; lapsed[c] = 0; m_refusal[c] = 0;
            if :: dirty[c] -> dirty[c] = 0; begun[c] = begun[c] - 1 :: else fi
        :: else
        fi;
        m_lock_granted[c] = 0; m_lock_queued[c] = 0;
        m_done[c] = 1; check() }

    :: d_step { m_full[c] && client[c] == REPLAYING ->
        m_full[c] = 0; become_full(c); check() }

    /* Operations. */
    :: d_step { client[c] == OPEN && begun[c] == acked[c] && begun[c] < OPS && !IS_CACHED(begun[c] + 1) ->
        begun[c] = begun[c] + 1; m_update[c] = 1;
        printf("client %d: sends update %d\n", c, begun[c]); check() }
    :: d_step { client[c] == OPEN && begun[c] == acked[c] && begun[c] < OPS && IS_CACHED(begun[c] + 1) &&
            lock_state[c] == HELD ->
        begun[c] = begun[c] + 1; dirty[c] = 1;
        printf("client %d: writes update %d into its cache\n", c, begun[c]); check() }
    :: d_step { client[c] == OPEN && begun[c] == acked[c] && begun[c] < OPS && IS_CACHED(begun[c] + 1) &&
            lock_state[c] == NONE && !cancelling[c] ->
        lock_state[c] = ASKED; m_enqueue[c] = 1;
        printf("client %d: asks for the lock\n", c); check() }
    :: d_step { client[c] == OPEN && refused[c] ->
        refused[c] = 0; m_update[c] = 1;
        printf("client %d: sends update %d again\n", c, begun[c]); check() }
    :: d_step { dirty[c] && (client[c] == OPEN || (client[c] == CLOSING && IS_TO_FLUSH(c))) ->
        dirty[c] = 0; m_update[c] = 1;
        printf("client %d: writes update %d back\n", c, begun[c]); check() }
    :: d_step { lock_state[c] == CALLED && !dirty[c] && !(begun[c] > acked[c] && IS_CACHED(begun[c])) &&
            (client[c] == OPEN || client[c] == CLOSING) ->
        lock_state[c] = NONE; cancelling[c] = 1; m_cancel[c] = 1;
        /* Whatever still speaks of this lock names a cookie that is no more. */
        m_callback[c] = 0; m_lock_granted[c] = 0; m_lock_queued[c] = 0;
        printf("client %d: cancels its lock\n", c); check() }

    /* Answers and callbacks. */
    :: d_step { m_reply[c] && client[c] >= OPEN ->
        m_reply[c] = 0;
        if
        :: IN_FLIGHT(c) -> acked[c] = acked[c] + 1;
            printf("client %d: update %d is acknowledged\n", c, acked[c])
        :: else
        fi;
        check() }
    :: d_step { m_refusal[c] > 0 && m_refusal[c] != 255 && client[c] >= OPEN ->
        if :: IN_FLIGHT(c) -> refused[c] = 1 :: else fi;
        printf("client %d: update %d is refused\n", c, begun[c]);
        if
        :: client[c] == OPEN && m_refusal[c] - 1 > seen[c] && m_refusal[c] - 1 > ended[c] ->
            seen[c] = m_refusal[c] - 1; gate_epoch[c] = m_refusal[c] - 1; client[c] = CLOSING
        :: else
        fi;
        m_refusal[c] = 0; check() }
    :: d_step { m_lock_granted[c] && client[c] >= OPEN ->
        m_lock_granted[c] = 0;
        if
        :: lock_state[c] == ASKED || lock_state[c] == QUEUED -> lock_state[c] = HELD;
            m_enqueue[c] = 0; m_lock_queued[c] = 0;
            printf("client %d: has the lock\n", c)
        :: else
        fi;
        check() }
    :: d_step { m_lock_queued[c] && client[c] >= OPEN ->
        m_lock_queued[c] = 0;
        if :: lock_state[c] == ASKED -> lock_state[c] = QUEUED :: else fi;
        check() }
    :: d_step { m_callback[c] && client[c] >= OPEN && (lock_state[c] >= HELD || lock_state[c] == NONE) ->
        m_callback[c] = 0;
        if :: lock_state[c] == HELD -> lock_state[c] = CALLED :: else fi;
        printf("client %d: its lock is called back\n", c); check() }
    :: d_step { m_notice[c] > 0 && client[c] != DISCONNECTED ->
        printf("client %d: notice of upgrade %d in state %d\n", c, m_notice[c], client[c]);
        if
        :: client[c] == OPEN && IS_NEWS(c) ->
            seen[c] = m_notice[c]; gate_epoch[c] = m_notice[c]; client[c] = CLOSING
        :: client[c] == CLOSING && IS_NEWS(c) && m_notice[c] > gate_epoch[c] ->
            seen[c] = m_notice[c]; gate_epoch[c] = m_notice[c]
        :: client[c] == PREPARED && IS_NEWS(c) && m_notice[c] > gate_epoch[c] ->
            /* Nothing has passed the gate since: prepared for this one too. */
            seen[c] = m_notice[c]; gate_epoch[c] = m_notice[c]; m_receipt[c] = m_notice[c]
        :: (client[c] == CONNECTING || client[c] == REPLAYING) && REMEMBERS_EARLY && m_notice[c] > early[c] ->
            early[c] = m_notice[c]
        :: else
        fi;
        m_notice[c] = 0; check() }
    :: d_step { client[c] == CLOSING && IS_DRAINED(c) ->
        client[c] = PREPARED; m_receipt[c] = gate_epoch[c];
        printf("client %d: gives its receipt for upgrade %d\n", c, gate_epoch[c]); check() }
    :: d_step { m_grant[c] > 0 && client[c] != DISCONNECTED ->
        printf("client %d: upgrade %d gates no longer\n", c, m_grant[c]);
        if :: m_grant[c] > ended[c] && client[c] != TOLD -> ended[c] = m_grant[c] :: else fi;
        if
        :: (client[c] == CLOSING || client[c] == PREPARED) && OPENS(c) ->
            client[c] = OPEN; gate_epoch[c] = 0
        :: else
        fi;
        m_grant[c] = 0; check() }
#ifdef WITHOUT_GRANT_ONLY
    :: d_step { client[c] == PREPARED ->
        client[c] = OPEN; gate_epoch[c] = 0;
        printf("client %d: has lost its patience\n", c); check() }
#endif
    :: d_step { m_commit[c] > 0 && client[c] >= OPEN ->
        printf("client %d: told that all is committed, upgrade %d\n", c, m_commit[c]);
        if
        :: ((client[c] == PREPARED || client[c] == CLOSING) && m_commit[c] == gate_epoch[c]) ||
            (client[c] == OPEN && m_commit[c] > ended[c]) ->
            MUST(told_too_early, (acked[c] <= disk[c] || evicted[c]) && record == instance);
            client[c] = TOLD; gate_epoch[c] = m_commit[c]; kept[c] = acked[c];
            if :: m_commit[c] > seen[c] -> seen[c] = m_commit[c] :: else fi
        :: else
        fi;
        m_commit[c] = 0; check() }

    /* Faults. */
    :: d_step { losses > 0 && client[c] != DISCONNECTED ->
        losses--;
        lose_connection(c);
        printf("client %d: the connection is lost\n", c); check() }
    od
}

#if N == 1
#define NOBODY(s) (standing[0] != s)
#define HAS_BACKLOG (memory[0] != disk[0] || held[0])
#define QUEUE_WAITS (queue[0])
#define AT_REST(x) (client[0] == OPEN && begun[0] == OPS && acked[0] == OPS)
#elif N == 2
#define NOBODY(s) (standing[0] != s && standing[1] != s)
#define HAS_BACKLOG (memory[0] != disk[0] || memory[1] != disk[1] || held[0] || held[1])
#define QUEUE_WAITS (queue[0] || queue[1])
#define AT_REST(x) (client[0] == OPEN && client[1] == OPEN && acked[0] == OPS && acked[1] == OPS)
#else
#define NOBODY(s) (standing[0] != s && standing[1] != s && standing[2] != s)
#define HAS_BACKLOG (memory[0] != disk[0] || memory[1] != disk[1] || memory[2] != disk[2] \
    || held[0] || held[1] || held[2])
#define QUEUE_WAITS (queue[0] || queue[1] || queue[2])
#define AT_REST(x) (client[0] == OPEN && client[1] == OPEN && client[2] == OPEN \
    && acked[0] == OPS && acked[1] == OPS && acked[2] == OPS)
#endif

#ifdef WITHOUT_POINT_OF_NO_RETURN
#define MAY_ABORT (state == ANNOUNCED || state == COMMITTING || state == SEALED || state == COMMITTED)
#else
/* Out of `sealed` only where the store says for certain that the record was not written. */
#define MAY_ABORT (state == ANNOUNCED || state == COMMITTING || state == SEALED)
#endif

proctype Target() {
    byte i = 0, j = 0, k = 0;
end_target:
    do
    :: d_step { state == SERVING && upgrades > 0 ->
        upgrades--; epoch++; state = ANNOUNCED;
        k = 0;
        do
        :: k < N -> if :: standing[k] == GRANTED -> m_notice[k] = epoch :: else fi; k++
        :: else -> break
        od;
        k = 0;
        printf("target %d: announces upgrade %d\n", instance, epoch); check() }
    /* The lock server: EX is granted when nobody holds CR. */
    :: d_step { state == ANNOUNCED && NOBODY(GRANTED) ->
        state = COMMITTING;
        printf("target %d: every client is prepared or left behind\n", instance); check() }
    /* A group commit, at any time. */
    :: d_step { state >= SERVING && state < SEALED && HAS_BACKLOG ->
        withdraw();
        commit_all();
        printf("target %d: commits\n", instance); check() }
    :: d_step { state == COMMITTING && !HAS_BACKLOG ->
        state = SEALED;
        printf("target %d: sealed\n", instance);
        k = 0;
#ifdef WITHOUT_RECORD_FIRST
        do :: k < N -> if :: standing[k] == WAITING || standing[k] == LEFT -> m_commit[k] = epoch :: else fi; k++ :: else -> break od;
        k = 0;
#endif
        /* The record is taken here; it is on disk in a later step. */
        record_holder = holder; check() }
    :: d_step { state == SEALED ->
#ifndef WITHOUT_TARGET_CHECK
#ifndef WITHOUT_SEAL
        commit_all();
#endif
#endif
        record = instance; writer = instance; state = COMMITTED;
        k = 0;
        do
        :: k < N ->
            record_entry[k] = slot[k];
            if :: standing[k] == WAITING || standing[k] == LEFT -> m_commit[k] = epoch :: else fi;
            k++
        :: else -> break
        od;
        k = 0;
        printf("target %d: the clean record is on disk, everybody is told\n", instance); check() }
    :: d_step { deadlines > 0 && state == ANNOUNCED && !NOBODY(GRANTED) ->
        deadlines--;
        k = 0;
        do
        :: k < N -> if :: standing[k] == GRANTED -> standing[k] = LEFT :: else fi; k++
        :: else -> break
        od;
        k = 0;
        printf("target %d: the deadline passes, who is not prepared is left behind\n", instance); check() }
    :: d_step { aborts > 0 && MAY_ABORT ->
        aborts--; state = SERVING;
        k = 0;
        do
        :: k < N ->
            if
            :: standing[k] != VACANT && standing[k] != SYNCHRONOUS -> standing[k] = GRANTED; grant_epoch[k] = epoch; m_grant[k] = epoch
            :: else
            fi;
            /* Who connected behind the seal has no row yet: the store takes changes again. */
            if
            :: standing[k] != VACANT && !slot[k] ->
                slot[k] = 1; memory[k] = acked[k]; disk[k] = acked[k]; withdraw()
            :: else
            fi;
            k++
        :: else -> break
        od;
        k = 0;
        call_back();
        printf("target %d: gives upgrade %d up\n", instance, epoch); check() }
    :: d_step { crashes > 0 && state != DOWN ->
        crashes--; state = DOWN;
        k = 0;
        do
        :: k < N -> lose_connection(k); standing[k] = VACANT; held[k] = 0; memory[k] = disk[k]; awaited[k] = 0; queue[k] = 0; grant_epoch[k] = 0; k++
        :: else -> break
        od;
        k = 0; holder = 0; reserved = 0; blocked = 0;
        printf("target %d: CRASHES\n", instance); check() }
    /* It comes back: after a crash, or when it has ended by itself. */
    :: d_step { state == DOWN || state == COMMITTED ->
        k = 0;
        do
        :: k < N -> lose_connection(k); standing[k] = VACANT; held[k] = 0; memory[k] = disk[k]; awaited[k] = 0; queue[k] = 0; grant_epoch[k] = 0; k++
        :: else -> break
        od;
        k = 0; holder = 0; reserved = 0; blocked = 0;
        instance++; base = epoch;
        clean_start = (record > 0 && record == writer);
        if
        :: clean_start ->
            state = SERVING;
#ifndef WITHOUT_RESERVATIONS
            holder = record_holder; reserved = (holder > 0)
#endif
        :: else ->
            state = RECOVERING;
            do :: k < N -> awaited[k] = slot[k]; k++ :: else -> break od;
            k = 0;
            finish_recovery()
        fi;
        printf("target %d: starts, clean %d, state %d\n", instance, clean_start, state); check() }
    /* The time of an absent owner is over, and somebody wants what is kept for it. */
    :: d_step { expiries > 0 && state == SERVING && reserved && QUEUE_WAITS && client[holder - 1] == DISCONNECTED ->
        expiries--;
        lapsed[holder - 1] = 1; holder = 0; reserved = 0; blocked = 0;
        withdraw(); serve_queue();
        printf("target %d: a reservation is over\n", instance); check() }
    /* The window of recovery ends: who has not come back is evicted. */
    :: d_step { evictions > 0 && state == RECOVERING ->
        evictions--;
        k = 0;
        do
        :: k < N ->
            if
            :: awaited[k] && (client[k] == DISCONNECTED) ->
                awaited[k] = 0; slot[k] = 0; lapsed[k] = (lock_state[k] >= HELD)
            :: else
            fi;
            k++
        :: else -> break
        od;
        k = 0;
        printf("target %d: the window of recovery ends\n", instance);
        writer = instance; record = 0;
        finish_recovery(); check() }
    od
}

/* Nothing can happen any more: then every gate is open and every operation has ended. */
proctype End() {
end_end:
    d_step { timeout -> MUST(gate_stays_shut, AT_REST(0)) }
}

init {
    atomic {
        /* The last client comes late: it has never been here. The others are connected. */
        byte c = 0;
        do
        :: c < N ->
            if
            :: c < N - 1 || N == 1 ->
                client[c] = OPEN; client_instance[c] = 1;
                standing[c] = (HAS_FEATURE(c) -> GRANTED : SYNCHRONOUS); slot[c] = 1
            :: else
            fi;
            run Client(c);
            c++
        :: else -> break
        od;
        c = 0;
        run Target();
        run End()
    }
}

/* Every run ends (`pan -l` finds no cycle), and where it ends all is open: checked once more as
 * liveness, with weak fairness, in the small configurations. */
ltl every_gate_opens { <> [] AT_REST(0) }
