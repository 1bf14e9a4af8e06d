/*
 * Two targets in one plan: a metadata server (0) that is a client of an object server (1), and N
 * clients of both. An operation is a request to the metadata server, which makes it send an update
 * to the object server; when it is answered, the client has data for the object server in its cache.
 *
 * What upgrade.pml shows of one target is taken as given here: connections, replay and the record are
 * one step each. -D: N, OPS, UPGRADES, CRASHES (of either target), LOSSES,
 * ABORTS (of the plan). WITHOUT_...: leaves one rule out.
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
#ifndef ABORTS
#define ABORTS 0
#endif
#ifndef LOSSES
#define LOSSES 0
#endif

#define SERVING    0
#define ANNOUNCED  1
#define COMMITTING 2
#define SEALED     3
#define COMMITTED  4

#define OPEN     0
#define CLOSING  1
#define PREPARED 2
#define TOLD     3

#define IDLE      0     /* an operation: */
#define SENT      1     /* the request is on its way to the metadata server */
#define SERVED    2     /* that one has executed it and has to tell the object server */
#define REMOTE    3     /* its update is on its way to the object server */
#define ANSWERED  4     /* the object server has answered */
#define DIRTY     5     /* the client has its answer, and data in its cache */
#define WRITING   6     /* the data are on their way to the object server */

mtype = { none, invariant_B, lost_update, executed_twice, group_together, gate_stays_shut };
mtype broken = none;

#define MDS 0
#define OSS 1
/* Who holds admission where: MDS: the clients. OSS: the clients, and the metadata server at place N. */
#define AT(t, c) ((t) * (N + 1) + (c))
byte state[2];
byte gate[2 * (N + 1)];               /* as the client sees it */
bit granted[2 * (N + 1)];             /* as the target sees it */
bit notice[2 * (N + 1)];
bit receipt[2 * (N + 1)];
bit grant[2 * (N + 1)];
bit told[2 * (N + 1)];
byte phase[N];
byte done[N];               /* operations that have ended */
byte mds_memory[N];         /* requests executed */
byte mds_disk[N];
byte oss_memory[N];         /* updates of the metadata server, by operation */
byte oss_disk[N];
byte data_memory[N];
byte data_disk[N];
byte remote_kept[N];        /* on the metadata server's own replay list: lost with its instance */

byte upgrades = UPGRADES;
byte crashes = CRASHES;
byte aborts = ABORTS;
byte losses = LOSSES;

#ifdef WITHOUT_DEPENDENCE
#define CLIENT_IS_DRAINED(c) (phase[c] != DIRTY && phase[c] != WRITING)
#else
#define CLIENT_IS_DRAINED(c) (phase[c] == IDLE)
#endif


#define MAY_GIVE_UP (state[MDS] < SEALED && state[OSS] < SEALED)

/* The target has come back from this plan's upgrade. */
bit over[2];

#define MUST(name, condition) \
    if :: (condition) :: else -> broken = name; printf("VIOLATED: %e\n", name) fi; \
    assert(broken == none)

/* All that the clients were answered is where it can be found again. */
inline check() {
    i = 0;
    do
    :: i < N ->
        /* An operation whose answer has come has its update at the object server. */
        MUST(lost_update, !(phase[i] >= DIRTY || phase[i] == ANSWERED) || oss_memory[i] > done[i] || oss_disk[i] > done[i]);
        MUST(lost_update, oss_memory[i] >= done[i] && data_memory[i] >= done[i] && mds_memory[i] >= done[i]);
        MUST(invariant_B, !(state[MDS] >= COMMITTING && !granted[AT(MDS, i)] && gate[AT(MDS, i)] == OPEN));
        MUST(invariant_B, !(state[OSS] >= COMMITTING && !granted[AT(OSS, i)] && gate[AT(OSS, i)] == OPEN));
        /* Prepared at the object server: nothing that is under way can still cause an update there. */
        MUST(invariant_B, !(state[OSS] >= COMMITTING && !granted[AT(OSS, i)] && phase[i] >= SENT && gate[AT(OSS, i)] == PREPARED));
        i++
    :: else -> break
    od;
    MUST(invariant_B, !(state[OSS] >= COMMITTING && !granted[AT(OSS, N)] && gate[AT(OSS, N)] == OPEN));
    /* Nobody is told before all are sealed: from there on no target can be given up. */
    MUST(group_together, !(state[MDS] == COMMITTED && state[OSS] < SEALED && !over[OSS]));
    MUST(group_together, !(state[OSS] == COMMITTED && state[MDS] < SEALED && !over[MDS]));
    i = 0
}

#ifdef WITHOUT_ALL_SEALED
#define MAY_TELL(t) 1
#else
#define MAY_TELL(t) (state[1 - (t)] >= SEALED || over[1 - (t)])
#endif
/* Nothing that the metadata server serves, or may still be asked to serve, leads to the object server. */
#ifdef WITHOUT_ORDER
#define MDS_IS_DRAINED (NO_REMOTE)
#else
#define MDS_IS_DRAINED (NO_REMOTE && NO_REQUEST && (state[MDS] >= COMMITTING || over[MDS] || state[MDS] == SERVING))
#endif
#if N == 1
#define NO_REMOTE (phase[0] != REMOTE)
#define NO_REQUEST (phase[0] != SENT && phase[0] != SERVED)
#define NOBODY_HOLDS(t) (!granted[AT(t, 0)] && ((t) == MDS || !granted[AT(t, N)]))
#define AT_REST (done[0] == OPS && gate[0] == OPEN && gate[2] == OPEN && gate[3] == OPEN)
#define MDS_BACKLOG (mds_memory[0] != mds_disk[0])
#define OSS_BACKLOG (oss_memory[0] != oss_disk[0] || data_memory[0] != data_disk[0])
#elif N == 2
#define NO_REMOTE (phase[0] != REMOTE && phase[1] != REMOTE)
#define NO_REQUEST (phase[0] != SENT && phase[0] != SERVED && phase[1] != SENT && phase[1] != SERVED)
#define NOBODY_HOLDS(t) (!granted[AT(t, 0)] && !granted[AT(t, 1)] && ((t) == MDS || !granted[AT(t, N)]))
#define AT_REST (done[0] == OPS && done[1] == OPS && gate[0] == OPEN && gate[1] == OPEN \
    && gate[3] == OPEN && gate[4] == OPEN && gate[5] == OPEN)
#define MDS_BACKLOG (mds_memory[0] != mds_disk[0] || mds_memory[1] != mds_disk[1])
#define OSS_BACKLOG (oss_memory[0] != oss_disk[0] || oss_memory[1] != oss_disk[1] \
    || data_memory[0] != data_disk[0] || data_memory[1] != data_disk[1])
#else
#define NO_REMOTE (phase[0] != REMOTE && phase[1] != REMOTE && phase[2] != REMOTE)
#define NO_REQUEST (phase[0] != SENT && phase[0] != SERVED && phase[1] != SENT && phase[1] != SERVED \
    && phase[2] != SENT && phase[2] != SERVED)
#define NOBODY_HOLDS(t) (!granted[AT(t, 0)] && !granted[AT(t, 1)] && !granted[AT(t, 2)] \
    && ((t) == MDS || !granted[AT(t, N)]))
#define AT_REST (done[0] == OPS && done[1] == OPS && done[2] == OPS && gate[0] == OPEN \
    && gate[1] == OPEN && gate[2] == OPEN && gate[4] == OPEN && gate[5] == OPEN && gate[6] == OPEN \
    && gate[7] == OPEN)
#define MDS_BACKLOG (mds_memory[0] != mds_disk[0] || mds_memory[1] != mds_disk[1] \
    || mds_memory[2] != mds_disk[2])
#define OSS_BACKLOG (oss_memory[0] != oss_disk[0] || oss_memory[1] != oss_disk[1] \
    || oss_memory[2] != oss_disk[2] || data_memory[0] != data_disk[0] \
    || data_memory[1] != data_disk[1] || data_memory[2] != data_disk[2])
#endif
#define BACKLOG(t) (((t) == MDS && MDS_BACKLOG) || ((t) == OSS && OSS_BACKLOG))
/* An update that a client's request caused elsewhere is committed there before it is answered. */
#ifdef WITHOUT_REMOTE_COMMIT
#define REMOTE_COMMITS 0
#else
#define REMOTE_COMMITS 1
#endif

inline commit(which) {
    i = 0;
    do
    :: i < N && which == MDS -> mds_disk[i] = mds_memory[i]; i++
    :: i < N && which == OSS -> oss_disk[i] = oss_memory[i]; data_disk[i] = data_memory[i]; i++
    :: i >= N -> break
    od;
    i = 0
}

inline reconnect_all(which) {
    i = 0;
    do
    :: i <= N ->
        gate[AT(which, i)] = OPEN; granted[AT(which, i)] = (i < N || which == OSS);
        notice[AT(which, i)] = 0; receipt[AT(which, i)] = 0; grant[AT(which, i)] = 0; told[AT(which, i)] = 0;
        i++
    :: else -> break
    od;
    i = 0
}

proctype Client(byte c) {
    byte i = 0, t = 0;
end_client:
    do
    /* The gates of all targets that it names are open: before a request is made of it. */
    :: d_step { phase[c] == IDLE && done[c] < OPS && gate[AT(MDS, c)] == OPEN && gate[AT(OSS, c)] == OPEN ->
        phase[c] = SENT;
        printf("client %d: begins operation %d\n", c, done[c] + 1); check() }
    :: d_step { phase[c] == SENT && state[MDS] < SEALED ->
        phase[c] = SERVED;
        if
        :: mds_memory[c] == done[c] -> mds_memory[c] = done[c] + 1
        :: else /* answered from the saved reply */
        fi;
        printf("mds: serves client %d in state %d\n", c, state[MDS]); check() }
    /* The metadata server's own gate at the object server. */
    :: d_step { phase[c] == SERVED && (gate[AT(OSS, N)] == OPEN || gate[AT(OSS, N)] == CLOSING) ->
        phase[c] = REMOTE;
        printf("mds: tells the object server for client %d\n", c); check() }
    :: d_step { phase[c] == REMOTE && state[OSS] < SEALED ->
        MUST(invariant_B, granted[AT(OSS, N)]);
        if
        :: oss_memory[c] == done[c] -> oss_memory[c] = done[c] + 1; remote_kept[c] = done[c] + 1
        :: else
        fi;
        if :: REMOTE_COMMITS -> commit(OSS) :: else fi;
        phase[c] = ANSWERED;
        printf("oss: executes the metadata server's update for client %d\n", c); check() }
    :: d_step { phase[c] == ANSWERED ->
        phase[c] = DIRTY;
        printf("client %d: is answered, has data to write back\n", c); check() }
    :: d_step { phase[c] == DIRTY && gate[AT(OSS, c)] != PREPARED && gate[AT(OSS, c)] != TOLD ->
        phase[c] = WRITING;
        printf("client %d: writes back\n", c); check() }
    :: d_step { phase[c] == WRITING && state[OSS] < SEALED ->
        MUST(executed_twice, data_memory[c] == done[c]);
        data_memory[c] = done[c] + 1; done[c] = done[c] + 1; phase[c] = IDLE;
        printf("client %d: operation %d has ended\n", c, done[c]); check() }
    /* Gates. */
    :: d_step { notice[AT(MDS, c)] && gate[AT(MDS, c)] == OPEN ->
        notice[AT(MDS, c)] = 0; gate[AT(MDS, c)] = CLOSING; printf("client %d: gate to the mds shut\n", c); check() }
    :: d_step { notice[AT(OSS, c)] && gate[AT(OSS, c)] == OPEN ->
        notice[AT(OSS, c)] = 0; gate[AT(OSS, c)] = CLOSING; printf("client %d: gate to the oss shut\n", c); check() }
    :: d_step { gate[AT(MDS, c)] == CLOSING && (phase[c] == IDLE || phase[c] == DIRTY || phase[c] == WRITING) ->
        gate[AT(MDS, c)] = PREPARED; receipt[AT(MDS, c)] = 1; printf("client %d: receipt to the mds\n", c); check() }
    /* Nothing still to do at the metadata server leads to an update here. */
    :: d_step { gate[AT(OSS, c)] == CLOSING && CLIENT_IS_DRAINED(c) ->
        gate[AT(OSS, c)] = PREPARED; receipt[AT(OSS, c)] = 1; printf("client %d: receipt to the oss\n", c); check() }
    :: d_step { grant[AT(MDS, c)] -> grant[AT(MDS, c)] = 0; notice[AT(MDS, c)] = 0; gate[AT(MDS, c)] = OPEN; check() }
    :: d_step { grant[AT(OSS, c)] -> grant[AT(OSS, c)] = 0; notice[AT(OSS, c)] = 0; gate[AT(OSS, c)] = OPEN; check() }
    :: d_step { told[AT(MDS, c)] -> told[AT(MDS, c)] = 0; gate[AT(MDS, c)] = TOLD; printf("client %d: told by the mds\n", c); check() }
    :: d_step { told[AT(OSS, c)] -> told[AT(OSS, c)] = 0; gate[AT(OSS, c)] = TOLD; printf("client %d: told by the oss\n", c); check() }
    /* A connection is lost, to either: what was under way is sent again; admission stays as it was. */
    :: d_step { losses > 0 && (receipt[AT(MDS, c)] || notice[AT(MDS, c)]) ->
        losses--; receipt[AT(MDS, c)] = 0; notice[AT(MDS, c)] = 0;
        gate[AT(MDS, c)] = (granted[AT(MDS, c)] && state[MDS] >= ANNOUNCED -> CLOSING : gate[AT(MDS, c)]);
        printf("client %d: loses its connection to the mds\n", c); check() }
    :: d_step { losses > 0 && (receipt[AT(OSS, c)] || notice[AT(OSS, c)]) ->
        losses--; receipt[AT(OSS, c)] = 0; notice[AT(OSS, c)] = 0;
        gate[AT(OSS, c)] = (granted[AT(OSS, c)] && state[OSS] >= ANNOUNCED -> CLOSING : gate[AT(OSS, c)]);
        printf("client %d: loses its connection to the oss\n", c); check() }
    od
}

/* The metadata server as a client of the object server. */
proctype Mds() {
    byte i = 0;
end_mds:
    do
    :: d_step { notice[AT(OSS, N)] && gate[AT(OSS, N)] == OPEN ->
        notice[AT(OSS, N)] = 0; gate[AT(OSS, N)] = CLOSING; printf("mds: its gate to the oss is shut\n"); check() }
    :: d_step { gate[AT(OSS, N)] == CLOSING && MDS_IS_DRAINED ->
        gate[AT(OSS, N)] = PREPARED; receipt[AT(OSS, N)] = 1; printf("mds: receipt to the oss\n"); check() }
    :: d_step { grant[AT(OSS, N)] -> grant[AT(OSS, N)] = 0; notice[AT(OSS, N)] = 0; gate[AT(OSS, N)] = OPEN; check() }
    :: d_step { told[AT(OSS, N)] -> told[AT(OSS, N)] = 0; gate[AT(OSS, N)] = TOLD; check() }
    od
}

inline receive_receipts(which) {
    i = 0;
    do
    :: i <= N ->
        if :: receipt[AT(which, i)] && state[which] == ANNOUNCED -> granted[AT(which, i)] = 0 :: else fi;
        receipt[AT(which, i)] = 0;
        i++
    :: else -> break
    od;
    i = 0
}

inline give_up(which) {
    state[which] = SERVING;
    i = 0;
    do
    :: i <= N -> granted[AT(which, i)] = (i < N || which == OSS); grant[AT(which, i)] = (i < N || which == OSS); receipt[AT(which, i)] = 0; i++
    :: else -> break
    od;
    i = 0
}

#if N == 3
#define THIRD_RECEIPT(t) receipt[AT(t, 2)]
#else
#define THIRD_RECEIPT(t) 0
#endif
#define HAS_RECEIPT(t) (state[t] == ANNOUNCED && \
    (receipt[AT(t, 0)] || receipt[AT(t, 1)] || THIRD_RECEIPT(t) || receipt[AT(t, N)]))

proctype Plan() {
    byte i = 0, t = 0;
end_plan:
    do
    :: d_step { upgrades > 0 && state[MDS] == SERVING && state[OSS] == SERVING ->
        upgrades--; over[MDS] = 0; over[OSS] = 0;
        state[MDS] = ANNOUNCED; state[OSS] = ANNOUNCED;
        i = 0;
        do
        :: i <= N -> notice[AT(MDS, i)] = (i < N); notice[AT(OSS, i)] = 1; i++
        :: else -> break
        od;
        i = 0;
        printf("plan: announced at both\n"); check() }
    :: d_step { aborts > 0 && state[MDS] != SERVING && state[OSS] != SERVING && state[MDS] < COMMITTED && state[OSS] < COMMITTED && MAY_GIVE_UP ->
        aborts--; give_up(MDS); give_up(OSS); printf("plan: given up\n"); check() }
    od
}

proctype Target(byte t) {
    byte i = 0, other = 0;
end_target:
    do
    :: d_step { HAS_RECEIPT(t) -> receive_receipts(t); check() }
    :: d_step { state[t] == ANNOUNCED && NOBODY_HOLDS(t) -> state[t] = COMMITTING;
        printf("target %d: everybody is prepared\n", t); check() }
    :: d_step { state[t] < SEALED && BACKLOG(t) -> commit(t); printf("target %d: commits\n", t); check() }
    :: d_step { state[t] == COMMITTING && !BACKLOG(t) -> state[t] = SEALED;
        printf("target %d: sealed, the record is on disk\n", t); check() }
    :: d_step { state[t] == SEALED && MAY_TELL(t) -> state[t] = COMMITTED;
        i = 0;
        do :: i <= N -> told[AT(t, i)] = (i < N || t == OSS); i++ :: else -> break od;
        i = 0;
        printf("target %d: committed\n", t); check() }
    /* The next instance, from the clean record. */
    :: d_step { state[t] == COMMITTED ->
        state[t] = SERVING; over[t] = 1;
        i = 0;
        do
        :: i < N && t == MDS -> mds_memory[i] = mds_disk[i]; remote_kept[i] = 0;
            if :: phase[i] == SERVED || phase[i] == REMOTE -> phase[i] = SENT :: else fi; i++
        :: i < N && t == OSS -> oss_memory[i] = oss_disk[i]; data_memory[i] = data_disk[i]; i++
        :: i >= N -> break
        od;
        reconnect_all(t);
        printf("target %d: the next instance serves\n", t); check() }
    /* A crash, and recovery by replay of those that live. The plan is over for the other one too. */
    :: d_step { crashes > 0 && state[t] < SEALED ->
        crashes--;
        if
        :: state[t] != SERVING && state[1 - t] != SERVING && state[1 - t] < SEALED -> other = 1 - t; give_up(other)
        :: else
        fi;
        if :: state[1 - t] == SEALED -> state[1 - t] = SERVING; i = 0;
            do :: i <= N -> granted[AT(1 - t, i)] = (i < N || t == MDS); grant[AT(1 - t, i)] = (i < N || t == MDS); i++ :: else -> break od;
            i = 0
        :: else
        fi;
        state[t] = SERVING;
        i = 0;
        do
        :: i < N && t == MDS ->
            /* The clients replay what they were answered. */
            if :: phase[i] >= DIRTY -> mds_memory[i] = done[i] + 1 :: phase[i] < DIRTY ->
                mds_memory[i] = (mds_disk[i] > done[i] -> mds_disk[i] : done[i]) fi;
            remote_kept[i] = 0;
            if :: phase[i] == SERVED || phase[i] == REMOTE || phase[i] == ANSWERED -> phase[i] = SENT :: else fi;
            i++
        :: i < N && t == OSS ->
            /* The clients replay, and the metadata server what is on its own list. */
            data_memory[i] = done[i];
            oss_memory[i] = (remote_kept[i] > oss_disk[i] -> remote_kept[i] : oss_disk[i]);
            i++
        :: i >= N -> break
        od;
        reconnect_all(t);
        printf("target %d: CRASHES and recovers\n", t); check() }
    od
}

proctype End() {
end_end:
    d_step { timeout -> MUST(gate_stays_shut, AT_REST) }
}

init {
    atomic {
        byte c = 0;
        do
        :: c <= N -> granted[AT(MDS, c)] = (c < N); granted[AT(OSS, c)] = 1; c++
        :: else -> break
        od;
        c = 0;
        do :: c < N -> run Client(c); c++ :: else -> break od;
        c = 0;
        run Mds(); run Plan(); run Target(MDS); run Target(OSS); run End()
    }
}

ltl every_gate_opens { <> [] (AT_REST) }
