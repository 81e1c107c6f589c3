# frozen_string_literal: true

# The real Sidekiq, taking orders: one JSON object a line on stdin, one answer a line on stdout.
#
# As a client it pushes, as an observer it says what its API and its web page show, and what their buttons do.
# `sidekiq -r ./sidekiq_peer.rb` gets the classes only, and is the worker.
require "sidekiq"
require "sidekiq/api"
require "json"

settings = {url: ENV.fetch("REDIS_URL")}
Sidekiq.configure_client { |c| c.redis = settings }
Sidekiq.configure_server { |c| c.redis = settings }
Sidekiq.logger.level = Logger::ERROR
Redis.sadd_returns_boolean = false if Redis.respond_to?(:sadd_returns_boolean=)

# Appends its arguments to a file.
class RubyAppend
  include Sidekiq::Job
  def perform(*args)
    File.open(ENV.fetch("OUT"), "a") { |f| f.syswrite(JSON.generate(args) + "\n") }
  end
end

# Fails.
class RubyBoom
  include Sidekiq::Job
  sidekiq_options retry: 3, backtrace: 5
  def perform(i) = raise(ArgumentError, "ruby boom #{i}")
end

# What a person sees of Sidekiq::Web, without a server in between.
class Page
  def initialize
    require "rack"
    require "rack/mock"
    require "securerandom"
    require "sidekiq/web"
    @secret = SecureRandom.base64(32)
    @app = Sidekiq::Web.new
  end

  def get(path) = ask(path, {})

  # As a browser does it, with the token of the form.
  def post(path, params)
    ask(path, method: "POST", params: params.merge("authenticity_token" => @secret))
  end

  def ask(path, options)
    status, _, body = @app.call(Rack::MockRequest.env_for(path, options.merge("rack.session" => {csrf: @secret.dup})))
    text = +""
    body.each { |b| text << b }
    text = text.force_encoding("UTF-8").gsub(%r{<(script|style|svg).*?</\1>}m, " ").gsub(/<[^>]+>/, " ")
    {status: status, text: text.gsub(/&[#\w]+;/, " ").gsub(/\s+/, " ").strip}
  end
end

SETS = {"schedule" => Sidekiq::ScheduledSet, "retry" => Sidekiq::RetrySet, "dead" => Sidekiq::DeadSet}.freeze

def entry(e)
  {at: e.at.to_f, score: e.score, class: e.klass, args: e.args, jid: e.jid, item: e.item, backtrace: e.error_backtrace}
end

def answer(order, page)
  case order["do"]
  when "push"
    Sidekiq::Client.push({"class" => order["class"], "args" => order["args"], "queue" => order["queue"]}.merge(order["more"] || {}))
  when "bulk"
    Sidekiq::Client.push_bulk("class" => order["class"], "args" => order["args"], "queue" => order["queue"])
  when "stats"
    s = Sidekiq::Stats.new
    {processed: s.processed, failed: s.failed, enqueued: s.enqueued, scheduled: s.scheduled_size, retry: s.retry_size,
     dead: s.dead_size, processes: s.processes_size, workers: s.workers_size, queues: s.queues}
  when "processes" then Sidekiq::ProcessSet.new.map { |p| p.instance_variable_get(:@attribs) }
  when "work" then Sidekiq::WorkSet.new.map { |process, thread, w| {process: process, thread: thread, queue: w["queue"], payload: w["payload"], run_at: w["run_at"]} }
  when "set" then SETS.fetch(order["name"]).new.map { |e| entry(e) }
  when "get" then page.get(order["path"])
  when "post" then page.post(order["path"], order["params"])
  else raise ArgumentError, "what is #{order}?"
  end
end

if $PROGRAM_NAME == __FILE__
  page = Page.new
  $stdout.sync = true
  while (line = $stdin.gets)
    puts JSON.generate({"is" => answer(JSON.parse(line), page)})
  end
end
