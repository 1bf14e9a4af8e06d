// One key that many clients watch, and an answer from each: a key of its own that it puts. Every
// client has a channel of its own, in one process; who asks is another process and watches the
// answers' prefix.
// NOTICE and ANSWER say how many bytes those carry.
//   etcd_fanout subscribe PORT COUNT NOTICE ANSWER   prints "ready", answers until its input ends
//   etcd_fanout publish PORT COUNT NOTICE ANSWER     prints "bucket NS 1" for every answer
#include <grpcpp/grpcpp.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "etcd.grpc.pb.h"

using namespace etcdserverpb;
using Clock = std::chrono::steady_clock;

static std::atomic<int> created{0};
static size_t noticeBytes, answerBytes;

static std::shared_ptr<grpc::Channel> channel(const std::string &port) {
    grpc::ChannelArguments arguments;
    // A connection of its own for every client.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(
        "127.0.0.1:" + port, grpc::InsecureChannelCredentials(), arguments);
}

struct Client final : grpc::ClientBidiReactor<WatchRequest, WatchResponse> {
    std::unique_ptr<Watch::Stub> watch;
    std::unique_ptr<KV::Stub> kv;
    grpc::ClientContext context;
    WatchRequest request;
    WatchResponse response;
    PutRequest answer;
    PutResponse done;
    std::unique_ptr<grpc::ClientContext> putContext;

    Client(std::shared_ptr<grpc::Channel> channel, int index)
        : watch(Watch::NewStub(channel)), kv(KV::NewStub(channel)) {
        request.mutable_create_request()->set_key("notice");
        answer.set_key("answers/" + std::to_string(index));
        answer.set_value(std::string(answerBytes, 'a'));
        watch->async()->Watch(&context, this);
        StartWrite(&request);
        StartRead(&response);
        StartCall();
    }

    void OnReadDone(bool ok) override {
        if (!ok) return;
        if (response.created()) created++;
        if (response.events_size() > 0) {
            putContext = std::make_unique<grpc::ClientContext>();
            kv->async()->Put(putContext.get(), &answer, &done, [](grpc::Status status) {
                if (!status.ok()) std::fprintf(stderr, "%s\n", status.error_message().c_str());
            });
        }
        StartRead(&response);
    }
    void OnDone(const grpc::Status &status) override {
        if (!status.ok()) std::fprintf(stderr, "%s\n", status.error_message().c_str());
    }
};

int main(int argc, char **argv) {
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (argc != 6) return 2;
    noticeBytes = (size_t)std::atoi(argv[4]);
    answerBytes = (size_t)std::atoi(argv[5]);
    std::string port = argv[2];
    int count = std::atoi(argv[3]);
    if (!std::strcmp(argv[1], "subscribe")) {
        std::vector<std::unique_ptr<Client>> clients;
        for (int i = 0; i < count; i++) {
            clients.push_back(std::make_unique<Client>(channel(port), i));
            // As many at a time as a listener's queue takes.
            while (i % 64 == 63 && created < i - 63) std::this_thread::yield();
        }
        while (created < count) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        std::printf("ready\n");
        std::fflush(stdout);
        char byte;
        while (read(0, &byte, 1) > 0) {}
        _exit(0);
    }
    auto watchChannel = channel(port);
    auto watch = Watch::NewStub(watchChannel);
    auto kv = KV::NewStub(channel(port));
    grpc::ClientContext context;
    auto stream = watch->Watch(&context);
    WatchRequest request;
    request.mutable_create_request()->set_key("answers/");
    request.mutable_create_request()->set_range_end("answers0");
    stream->Write(request);
    WatchResponse response;
    if (!stream->Read(&response) || !response.created()) return 1;
    auto began = Clock::now();
    grpc::ClientContext putContext;
    PutRequest notice;
    PutResponse done;
    notice.set_key("notice");
    notice.set_value(std::string(noticeBytes, '~'));
    auto status = kv->Put(&putContext, notice, &done);
    if (!status.ok()) {
        std::fprintf(stderr, "%s\n", status.error_message().c_str());
        return 1;
    }
    int told = 0;
    while (told < count && stream->Read(&response)) {
        auto ns = std::chrono::nanoseconds(Clock::now() - began).count();
        for (int i = 0; i < response.events_size(); i++, told++)
            std::printf("bucket %lld 1\n", (long long)ns);
    }
    std::fflush(stdout);
    _exit(0);
}
