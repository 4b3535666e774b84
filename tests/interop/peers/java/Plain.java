import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import com.rabbitmq.stream.Message;
import com.rabbitmq.stream.MessageBuilder;
import com.rabbitmq.stream.Properties;
import java.math.BigInteger;
import java.util.Base64;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.qpid.proton.amqp.Binary;
import org.apache.qpid.proton.amqp.messaging.AmqpSequence;
import org.apache.qpid.proton.amqp.messaging.AmqpValue;
import org.apache.qpid.proton.amqp.messaging.Data;

/** Messages as JSON, in the form that plain.py describes; the client has neither headers nor footers. */
final class Plain {

  private Plain() {}

  // To AMQP

  /** The message that `plain` describes; its body is a data section. */
  static Message load(JsonObject plain, MessageBuilder builder) {
    builder.addData(bytes(plain.get("body")));
    if (plain.has("properties")) {
      MessageBuilder.PropertiesBuilder properties = builder.properties();
      for (Map.Entry<String, JsonElement> field : plain.getAsJsonObject("properties").entrySet()) {
        property(properties, field.getKey(), field.getValue());
      }
    }
    if (plain.has("application_properties")) {
      MessageBuilder.ApplicationPropertiesBuilder entries = builder.applicationProperties();
      for (JsonElement pair : pairs(plain, "application_properties")) {
        entry(entries, pair.getAsJsonArray().get(0).getAsString(), pair.getAsJsonArray().get(1));
      }
    }
    if (plain.has("annotations")) {
      MessageBuilder.MessageAnnotationsBuilder entries = builder.messageAnnotations();
      for (JsonElement pair : pairs(plain, "annotations")) {
        String key = text(value(pair.getAsJsonArray().get(0)));
        JsonElement value = pair.getAsJsonArray().get(1);
        if ("int".equals(type(value))) {
          entries.entry(key, value(value).getAsInt());
        } else {
          entries.entry(key, text(value));
        }
      }
    }
    return builder.build();
  }

  private static JsonArray pairs(JsonObject plain, String part) {
    return plain.getAsJsonObject(part).getAsJsonArray("v");
  }

  private static void property(MessageBuilder.PropertiesBuilder to, String name, JsonElement value) {
    switch (name) {
      case "message_id":
        switch (type(value)) {
          case "binary": to.messageId(bytes(value)); break;
          case "uuid": to.messageId(uuid(value)); break;
          case "long": to.messageId(value.getAsBigInteger().longValue()); break;
          default: to.messageId(text(value));
        }
        break;
      case "correlation_id":
        switch (type(value)) {
          case "binary": to.correlationId(bytes(value)); break;
          case "uuid": to.correlationId(uuid(value)); break;
          case "long": to.correlationId(value.getAsBigInteger().longValue()); break;
          default: to.correlationId(text(value));
        }
        break;
      case "user_id": to.userId(bytes(value)); break;
      case "to": to.to(text(value)); break;
      case "subject": to.subject(text(value)); break;
      case "reply_to": to.replyTo(text(value)); break;
      case "content_type": to.contentType(text(value)); break;
      case "content_encoding": to.contentEncoding(text(value)); break;
      case "absolute_expiry_time": to.absoluteExpiryTime(value(value).getAsLong()); break;
      case "creation_time": to.creationTime(value(value).getAsLong()); break;
      case "group_id": to.groupId(text(value)); break;
      case "group_sequence": to.groupSequence(value.getAsLong()); break;
      case "reply_to_group_id": to.replyToGroupId(text(value)); break;
      default: throw new IllegalArgumentException("no property " + name);
    }
  }

  private static void entry(MessageBuilder.ApplicationPropertiesBuilder to, String key, JsonElement value) {
    JsonElement inner = value(value);
    switch (type(value)) {
      case "boolean": to.entry(key, inner.getAsBoolean()); break;
      case "long": to.entry(key, inner.getAsLong()); break;
      case "double": to.entry(key, inner.getAsDouble()); break;
      case "string": to.entry(key, inner.getAsString()); break;
      case "binary": to.entry(key, bytes(value)); break;
      case "uuid": to.entry(key, uuid(value)); break;
      case "timestamp": to.entryTimestamp(key, inner.getAsLong()); break;
      case "symbol": to.entrySymbol(key, inner.getAsString()); break;
      case "byte": to.entry(key, inner.getAsByte()); break;
      case "short": to.entry(key, inner.getAsShort()); break;
      case "int": to.entry(key, inner.getAsInt()); break;
      case "float": to.entry(key, inner.getAsFloat()); break;
      case "ubyte": to.entryUnsigned(key, (byte) inner.getAsInt()); break;
      case "ushort": to.entryUnsigned(key, (short) inner.getAsInt()); break;
      case "uint": to.entryUnsigned(key, (int) inner.getAsLong()); break;
      case "ulong": to.entryUnsigned(key, inner.getAsBigInteger().longValue()); break;
      default: throw new IllegalArgumentException("the client cannot write a " + type(value));
    }
  }

  /** The AMQP type of a value: the named one, or the one that JSON's own stands for. */
  private static String type(JsonElement value) {
    if (value.isJsonObject()) {
      return value.getAsJsonObject().get("$").getAsString();
    }
    JsonPrimitive primitive = value.getAsJsonPrimitive();
    if (primitive.isBoolean()) {
      return "boolean";
    }
    if (primitive.isString()) {
      return "string";
    }
    return primitive.getAsString().matches("-?[0-9]+") ? "long" : "double";
  }

  private static JsonElement value(JsonElement value) {
    return value.isJsonObject() ? value.getAsJsonObject().get("v") : value;
  }

  private static byte[] bytes(JsonElement value) {
    return Base64.getDecoder().decode(value(value).getAsString());
  }

  private static UUID uuid(JsonElement value) {
    return UUID.fromString(value(value).getAsString());
  }

  private static String text(JsonElement value) {
    return value(value).getAsString();
  }

  // From AMQP

  /** What the client says of a message that it was delivered. */
  static JsonObject dump(Message message) {
    JsonObject plain = new JsonObject();
    Object body = message.getBody();
    if (body instanceof Data) {
      plain.add("body", dump(((Data) body).getValue()));
    } else if (body instanceof AmqpSequence) {
      plain.add("sequence", dump(((AmqpSequence) body).getValue()));
    } else if (body instanceof AmqpValue) {
      plain.add("value", dump(((AmqpValue) body).getValue()));
    }
    Properties properties = message.getProperties();
    if (properties != null) {
      JsonObject fields = new JsonObject();
      field(fields, "message_id", properties.getMessageId());
      field(fields, "user_id", properties.getUserId());
      field(fields, "to", properties.getTo());
      field(fields, "subject", properties.getSubject());
      field(fields, "reply_to", properties.getReplyTo());
      field(fields, "correlation_id", properties.getCorrelationId());
      field(fields, "content_type", properties.getContentType());
      field(fields, "content_encoding", properties.getContentEncoding());
      moment(fields, "absolute_expiry_time", properties.getAbsoluteExpiryTime());
      moment(fields, "creation_time", properties.getCreationTime());
      field(fields, "group_id", properties.getGroupId());
      if (properties.getGroupSequence() > 0) { // it says -1 for none
        fields.addProperty("group_sequence", properties.getGroupSequence());
      }
      field(fields, "reply_to_group_id", properties.getReplyToGroupId());
      plain.add("properties", fields);
    }
    part(plain, "application_properties", message.getApplicationProperties());
    part(plain, "annotations", message.getMessageAnnotations());
    return plain;
  }

  private static void part(JsonObject plain, String name, Map<String, Object> entries) {
    if (entries != null && !entries.isEmpty()) {
      plain.add(name, dump(entries));
    }
  }

  private static void field(JsonObject fields, String name, Object value) {
    if (value != null && value.getClass().getSimpleName().equals("UnsignedLong")) { // what the protocol gives the type of its own says nothing by it
      fields.add(name, number(value));
    } else if (value != null) {
      fields.add(name, dump(value));
    }
  }

  private static void moment(JsonObject fields, String name, long milliseconds) {
    if (milliseconds > 0) { // it says 0 for none
      fields.add(name, typed("timestamp", new JsonPrimitive(milliseconds)));
    }
  }

  private static JsonElement dump(Object value) {
    if (value == null) {
      return JsonNull.INSTANCE;
    } else if (value instanceof Boolean) {
      return new JsonPrimitive((Boolean) value);
    } else if (value instanceof String) {
      return new JsonPrimitive((String) value);
    } else if (value instanceof Long || value instanceof Double) {
      return new JsonPrimitive((Number) value);
    } else if (value instanceof Binary) {
      return dump(((Binary) value).getArray());
    } else if (value instanceof byte[]) {
      return typed("binary", new JsonPrimitive(Base64.getEncoder().encodeToString((byte[]) value)));
    } else if (value instanceof UUID) {
      return typed("uuid", new JsonPrimitive(value.toString()));
    } else if (value instanceof Map) {
      JsonArray pairs = new JsonArray();
      for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
        JsonArray pair = new JsonArray();
        pair.add(dump(entry.getKey()));
        pair.add(dump(entry.getValue()));
        pairs.add(pair);
      }
      return typed("map", pairs);
    } else if (value instanceof List) {
      JsonArray items = new JsonArray();
      for (Object item : (List<?>) value) {
        items.add(dump(item));
      }
      return items;
    }
    // By the names of classes: the client has unsigned integers of its own, and those in a body are Proton's.
    String name = value.getClass().getSimpleName();
    switch (name) {
      case "Float":
        return typed("float", new JsonPrimitive((Float) value));
      case "Integer":
        return typed("int", number(value));
      case "UnsignedByte":
        return typed("ubyte", number(value));
      case "UnsignedShort":
        return typed("ushort", number(value));
      case "UnsignedInteger":
        return typed("uint", number(value));
      case "UnsignedLong":
        return typed("ulong", number(value));
      case "Date":
        return typed("timestamp", new JsonPrimitive(((Date) value).getTime()));
      default: // Byte, Short, Symbol
        return typed(name.toLowerCase(), value instanceof Number ? number(value) : new JsonPrimitive(value.toString()));
    }
  }

  private static JsonPrimitive number(Object value) {
    return new JsonPrimitive(new BigInteger(value.toString()));
  }

  private static JsonObject typed(String name, JsonElement value) {
    JsonObject typed = new JsonObject();
    typed.addProperty("$", name);
    typed.add("v", value);
    return typed;
  }
}
