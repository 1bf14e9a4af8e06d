// gRPC C++ unary calls without a body, as its performance guide advises: the callback API, one
// channel. "serve PORT" answers; "call PORT CONCURRENCY SECONDS" prints a line "bucket NS COUNT"
// for every latency it saw and "calls COUNT SECONDS" at the end.
#include <sched.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "null.grpc.pb.h"

using Clock = std::chrono::steady_clock;

class Service final : public peers::Null::CallbackService {
    grpc::ServerUnaryReactor *Call(
        grpc::CallbackServerContext *context, const peers::Nothing *, peers::Nothing *) override {
        auto *reactor = context->DefaultReactor();
        reactor->Finish(grpc::Status::OK);
        return reactor;
    }
};

static int serve(const std::string &port) {
    Service service;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + port, grpc::InsecureServerCredentials());
    builder.RegisterService(&service);
    auto server = builder.BuildAndStart();
    if (!server) return 1;
    std::printf("ready\n");
    std::fflush(stdout);
    server->Wait();
    return 0;
}

static uint64_t rounded(uint64_t ns) {
    uint64_t step = 1;
    while (ns / step >= 2000) step *= 2;
    return ns / step * step;
}

struct Caller {
    std::unique_ptr<peers::Null::Stub> stub;
    std::mutex mutex;
    std::condition_variable ended;
    std::map<uint64_t, uint64_t> buckets;
    uint64_t count = 0;
    int running = 0;
    Clock::time_point began, stop, last;
    bool counting = false;

    struct One {
        std::unique_ptr<grpc::ClientContext> context;
        peers::Nothing request, reply;
        Clock::time_point sent;
    };

    void call(One *one) {
        one->context = std::make_unique<grpc::ClientContext>();
        one->sent = Clock::now();
        stub->async()->Call(
            one->context.get(), &one->request, &one->reply, [this, one](grpc::Status status) {
                auto now = Clock::now();
                bool again = status.ok() && now < stop;
                {
                    std::lock_guard<std::mutex> lock(mutex);
                    if (!status.ok()) std::fprintf(stderr, "%s\n", status.error_message().c_str());
                    if (now >= began) {
                        auto ns = std::chrono::nanoseconds(now - one->sent).count();
                        buckets[rounded((uint64_t)ns)]++;
                        count++;
                        last = now;
                    }
                    if (!again && --running == 0) ended.notify_one();
                }
                if (again) call(one);
            });
    }
};

int main(int argc, char **argv) {
    if (argc == 3 && !std::strcmp(argv[1], "serve")) return serve(argv[2]);
    if (argc != 5 || std::strcmp(argv[1], "call")) return 2;
    int concurrency = std::atoi(argv[3]);
    double seconds = std::atof(argv[4]);
    Caller caller;
    caller.stub = peers::Null::NewStub(grpc::CreateChannel(
        std::string("127.0.0.1:") + argv[2], grpc::InsecureChannelCredentials()));
    auto now = Clock::now();
    // A fifth of a second to warm up.
    caller.began = now + std::chrono::milliseconds(200);
    caller.stop = caller.began + std::chrono::nanoseconds((int64_t)(seconds * 1e9));
    caller.running = concurrency;
    std::vector<Caller::One> ones(concurrency);
    for (auto &one : ones) caller.call(&one);
    std::unique_lock<std::mutex> lock(caller.mutex);
    caller.ended.wait(lock, [&] { return caller.running == 0; });
    for (auto &bucket : caller.buckets)
        std::printf("bucket %llu %llu\n", (unsigned long long)bucket.first,
                    (unsigned long long)bucket.second);
    std::printf("calls %llu %.6f\n", (unsigned long long)caller.count,
                std::chrono::duration<double>(caller.last - caller.began).count());
    return 0;
}
