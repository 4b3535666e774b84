import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import com.rabbitmq.stream.Consumer;
import com.rabbitmq.stream.ConsumerBuilder;
import com.rabbitmq.stream.Environment;
import com.rabbitmq.stream.Message;
import com.rabbitmq.stream.NoOffsetException;
import com.rabbitmq.stream.OffsetSpecification;
import com.rabbitmq.stream.Producer;
import com.rabbitmq.stream.ProducerBuilder;
import com.rabbitmq.stream.compression.Compression;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * The Java client: one JSON request a line on stdin, one JSON answer a line on stdout, until stdin ends.
 *
 * <p>A request has an `op`, the broker's `uri`, and what `op` needs. An answer is {"answer": …} or {"error": "…"}.
 * Environments and the consumers that `open` makes live as long as this process.
 */
public final class Peer {

  private static final long PATIENCE_S = 20;

  private final Map<String, Environment> environments = new HashMap<>();
  private final Map<String, Reader> readers = new HashMap<>();

  public static void main(String[] arguments) throws Exception {
    PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err); // whatever else prints must not stand among the answers
    BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    Gson gson = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
    Peer peer = new Peer();
    String line;
    while ((line = requests.readLine()) != null) {
      JsonObject answer = new JsonObject();
      try {
        answer.add("answer", peer.carryOut(gson.fromJson(line, JsonObject.class)));
      } catch (Exception error) {
        error.printStackTrace();
        answer = new JsonObject();
        answer.addProperty("error", error.toString());
      }
      answers.println(gson.toJson(answer));
    }
    System.exit(0); // the environments' threads end with it
  }

  private JsonElement carryOut(JsonObject request) throws Exception {
    switch (text(request, "op")) {
      case "publish":
        return publish(request);
      case "sequence":
        return sequence(request);
      case "open":
        Reader reader = new Reader(request, environment(request));
        String id = "consumer-" + readers.size();
        readers.put(id, reader);
        return new JsonPrimitive(id);
      case "take":
        return reader(request).take(request.get("count").getAsInt());
      case "taken":
        return reader(request).taken();
      case "store":
        reader(request).consumer.store(request.get("offset").getAsLong());
        return JsonNull.INSTANCE;
      case "stored":
        return reader(request).stored();
      case "close":
        reader(request).consumer.close();
        return JsonNull.INSTANCE;
      case "leave":
        new Thread(reader(request).consumer::close).start();
        return JsonNull.INSTANCE;
      case "store_offset":
        environment(request)
            .storeOffset(text(request, "name"), text(request, "stream"), request.get("offset").getAsLong());
        return JsonNull.INSTANCE;
      case "create_super_stream":
        createSuperStream(request);
        return JsonNull.INSTANCE;
      case "delete_super_stream":
        environment(request).deleteSuperStream(text(request, "super_stream"));
        return JsonNull.INSTANCE;
      default:
        throw new IllegalArgumentException("no such op: " + request);
    }
  }

  private Environment environment(JsonObject request) {
    return environments.computeIfAbsent(
        text(request, "uri"), uri -> Environment.builder().uri(uri).id("java-peer").build());
  }

  private Reader reader(JsonObject request) {
    return readers.get(text(request, "consumer"));
  }

  // Publishing

  /** Publish, wait for all confirms, and return the codes of those that are none. */
  private JsonElement publish(JsonObject request) throws Exception {
    Map<Message, String> filters = new IdentityHashMap<>();
    Map<Message, String> keys = new IdentityHashMap<>();
    Producer producer = producer(request, filters, keys);
    List<Message> messages = new ArrayList<>();
    JsonArray plain = request.getAsJsonArray("messages");
    for (int index = 0; index < plain.size(); index++) {
      var builder = producer.messageBuilder();
      if (request.has("ids")) {
        builder.publishingId(request.getAsJsonArray("ids").get(index).getAsLong());
      }
      Message message = Plain.load(plain.get(index).getAsJsonObject(), builder);
      messages.add(message);
      remember(filters, message, request, "filters", index);
      remember(keys, message, request, "keys", index);
    }
    JsonArray refused = new JsonArray();
    CountDownLatch outcomes = new CountDownLatch(messages.size());
    for (Message message : messages) {
      producer.send(
          message,
          status -> {
            if (!status.isConfirmed()) {
              synchronized (refused) {
                refused.add(status.getCode());
              }
            }
            outcomes.countDown();
          });
    }
    boolean all = outcomes.await(PATIENCE_S, TimeUnit.SECONDS);
    producer.close();
    if (!all) {
      throw new TimeoutException(outcomes.getCount() + " messages have no outcome");
    }
    return refused;
  }

  private Producer producer(JsonObject request, Map<Message, String> filters, Map<Message, String> keys) {
    ProducerBuilder builder = environment(request).producerBuilder();
    if (request.has("super_stream")) {
      ProducerBuilder.RoutingConfiguration routing =
          builder.superStream(text(request, "super_stream")).routing(keys::get);
      ("key".equals(text(request, "routing")) ? routing.key() : routing.hash()).producerBuilder();
    } else {
      builder.stream(text(request, "stream"));
    }
    if (request.has("name")) {
      builder.name(text(request, "name")).confirmTimeout(Duration.ZERO);
    }
    if (request.has("sub_entry_size")) {
      builder.subEntrySize(request.get("sub_entry_size").getAsInt());
      if (request.has("compression")) {
        builder.compression(Compression.valueOf(text(request, "compression").toUpperCase()));
      }
    }
    if (request.has("filters")) {
      builder.filterValue(filters::get);
    }
    return builder.build();
  }

  private static void remember(
      Map<Message, String> map, Message message, JsonObject request, String name, int index) {
    if (request.has(name) && !request.getAsJsonArray(name).get(index).isJsonNull()) {
      map.put(message, request.getAsJsonArray(name).get(index).getAsString());
    }
  }

  /** The highest publishing id that the broker has under a name, as a new producer finds it. */
  private JsonElement sequence(JsonObject request) {
    try (Producer producer =
        environment(request).producerBuilder().stream(text(request, "stream")).name(text(request, "name")).build()) {
      return new JsonPrimitive(producer.getLastPublishingId());
    }
  }

  private void createSuperStream(JsonObject request) {
    var creator = environment(request).streamCreator().name(text(request, "super_stream")).superStream();
    if (request.has("binding_keys")) {
      creator.bindingKeys(new Gson().fromJson(request.get("binding_keys"), String[].class));
    } else {
      creator.partitions(request.get("partitions").getAsInt());
    }
    creator.creator().create();
  }

  private static String text(JsonObject request, String name) {
    return request.get(name).getAsString();
  }

  /** A consumer that keeps what it is given until it is taken. */
  private static final class Reader {

    final Consumer consumer;
    private final BlockingQueue<JsonObject> delivered = new LinkedBlockingQueue<>();

    Reader(JsonObject request, Environment environment) {
      ConsumerBuilder builder = environment.consumerBuilder().offset(offset(request));
      if (request.has("super_stream")) {
        builder.superStream(text(request, "super_stream"));
      } else {
        builder.stream(text(request, "stream"));
      }
      if (request.has("name")) {
        builder.name(text(request, "name"));
      }
      if (request.has("store_every")) {
        builder
            .autoTrackingStrategy()
            .messageCountBeforeStorage(request.get("store_every").getAsInt())
            .flushInterval(Duration.ofSeconds(2));
      } else if (request.has("name")) {
        builder.manualTrackingStrategy();
      }
      if (request.has("filter")) {
        builder
            .filter()
            .values(new Gson().fromJson(request.get("filter"), String[].class))
            .matchUnfiltered(request.get("match_unfiltered").getAsBoolean())
            .postFilter(message -> true);
      }
      if (request.has("single_active")) {
        builder.singleActiveConsumer();
      }
      consumer =
          builder
              .messageHandler(
                  (context, message) -> {
                    JsonObject plain = Plain.dump(message);
                    plain.addProperty("offset", context.offset());
                    plain.addProperty("timestamp_ms", context.timestamp());
                    plain.addProperty("stream", context.stream());
                    delivered.add(plain);
                  })
              .build();
    }

    private static OffsetSpecification offset(JsonObject request) {
      JsonPrimitive offset = request.getAsJsonPrimitive("offset");
      if (offset.isNumber()) {
        return OffsetSpecification.offset(offset.getAsLong());
      }
      switch (offset.getAsString()) {
        case "first":
          return OffsetSpecification.first();
        case "last":
          return OffsetSpecification.last();
        default:
          return OffsetSpecification.next();
      }
    }

    JsonElement take(int count) throws Exception {
      JsonArray found = new JsonArray();
      long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
      while (found.size() < count) {
        JsonObject message = delivered.poll(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
        if (message == null) {
          throw new TimeoutException(found.size() + " messages, and no more");
        }
        found.add(message);
      }
      return found;
    }

    /** What is there by now. */
    JsonElement taken() {
      List<JsonObject> found = new ArrayList<>();
      delivered.drainTo(found);
      return new Gson().toJsonTree(found);
    }

    JsonElement stored() {
      try {
        return new JsonPrimitive(consumer.storedOffset());
      } catch (NoOffsetException none) {
        return JsonNull.INSTANCE;
      }
    }
  }
}
