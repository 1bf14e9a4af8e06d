// One message to many subscribers and an answer from each, through NATS or Redis. Subscribers have a
// connection each and share one process and its epoll; the publisher is another process.
// NOTICE and ANSWER say how many bytes those carry.
//   fanout subscribe nats|redis PORT COUNT NOTICE ANSWER   prints "ready", answers until its input ends
//   fanout publish nats|redis PORT COUNT NOTICE ANSWER     prints "bucket NS 1" for every answer
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

using Clock = std::chrono::steady_clock;
static size_t noticeBytes, answerBytes;

static void fail(const char *what) {
    std::perror(what);
    std::exit(1);
}

static int dial(int port) {
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (s < 0 || connect(s, (sockaddr *)&to, sizeof to) < 0) fail("connect");
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return s;
}

static void put(int s, const std::string &text) {
    size_t done = 0;
    while (done < text.size()) {
        ssize_t n = send(s, text.data() + done, text.size() - done, MSG_NOSIGNAL);
        if (n <= 0) fail("send");
        done += (size_t)n;
    }
}

// Reads until `text` was seen.
static void await(int s, const char *text) {
    std::string seen;
    char buffer[4096];
    while (seen.find(text) == std::string::npos) {
        ssize_t n = recv(s, buffer, sizeof buffer, 0);
        if (n <= 0) fail("recv");
        seen.append(buffer, (size_t)n);
    }
}

static std::string bulk(const std::string &text) {
    return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
}

static std::string publishRedis(const std::string &channel, const std::string &body) {
    return "*3\r\n" + bulk("PUBLISH") + bulk(channel) + bulk(body);
}

static const std::string connectNATS = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

static int joined(bool nats, int port, const std::string &subject) {
    int s = dial(port);
    if (nats) {
        put(s, connectNATS + "SUB " + subject + " 1\r\nPING\r\n");
        await(s, "PONG\r\n");
    } else {
        // RESP3, so that a subscriber may publish on the same connection.
        put(s, "*2\r\n" + bulk("HELLO") + bulk("3") + "*2\r\n" + bulk("SUBSCRIBE") + bulk(subject));
        await(s, ("subscribe\r\n$" + std::to_string(subject.size())).c_str());
    }
    return s;
}

static void subscribe(bool nats, int port, int count) {
    int poller = epoll_create1(0);
    std::vector<int> sockets;
    for (int i = 0; i < count; i++) {
        int s = joined(nats, port, "notice");
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u32 = (uint32_t)i;
        epoll_ctl(poller, EPOLL_CTL_ADD, s, &event);
        sockets.push_back(s);
    }
    std::printf("ready\n");
    std::fflush(stdout);
    std::thread([] {
        char byte;
        while (read(0, &byte, 1) > 0) {}
        _exit(0);
    }).detach();
    std::string body(answerBytes, 'a');
    std::string answer = nats ? "PUB answers " + std::to_string(body.size()) + "\r\n" + body + "\r\n"
                              : publishRedis("answers", body);
    std::vector<size_t> heard((size_t)count, 0);
    epoll_event events[256];
    char buffer[65536];
    while (true) {
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            uint32_t client = events[i].data.u32;
            ssize_t got = recv(sockets[client], buffer, sizeof buffer, 0);
            if (got <= 0) fail("subscriber");
            // The notice is made of ~, of which nothing else has any.
            for (ssize_t k = 0; k < got; k++) heard[client] += buffer[k] == '~';
            if (heard[client] >= noticeBytes) {
                heard[client] -= noticeBytes;
                put(sockets[client], answer);
            } else if (nats && got >= 6 && !std::memcmp(buffer, "PING\r\n", 6)) {
                put(sockets[client], "PONG\r\n");
            }
        }
    }
}

static void publish(bool nats, int port, int count) {
    int answers = joined(nats, port, "answers");
    int out = dial(port);
    if (nats) {
        put(out, connectNATS + "PING\r\n");
        await(out, "PONG\r\n");
    }
    std::string body(noticeBytes, '~');
    std::string notice = nats ? "PUB notice " + std::to_string(body.size()) + "\r\n" + body + "\r\n"
                              : publishRedis("notice", body);
    const size_t each = answerBytes + (nats ? 1 : 2);
    char buffer[65536];
    auto began = Clock::now();
    put(out, notice);
    size_t bytes = 0, told = 0;
    while (told < (size_t)count) {
        ssize_t got = recv(answers, buffer, sizeof buffer, 0);
        if (got <= 0) fail("publisher");
        // Answers are made of a's. Every header names the subject, which has one more, and those of
        // Redis say "message" as well.
        for (ssize_t k = 0; k < got; k++) bytes += buffer[k] == 'a';
        auto ns = std::chrono::nanoseconds(Clock::now() - began).count();
        for (; told < (size_t)count && bytes >= (told + 1) * each; told++)
            std::printf("bucket %lld 1\n", (long long)ns);
    }
}

int main(int argc, char **argv) {
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (argc != 7) return 2;
    noticeBytes = (size_t)std::atoi(argv[5]);
    answerBytes = (size_t)std::atoi(argv[6]);
    bool nats = !std::strcmp(argv[2], "nats");
    int port = std::atoi(argv[3]), count = std::atoi(argv[4]);
    if (!std::strcmp(argv[1], "subscribe")) subscribe(nats, port, count);
    else publish(nats, port, count);
    return 0;
}
